"""How processes are found; what they agree on is in `mesh_run_test`."""

import os

import numpy as np
import pytest

from lrm_jax import distributed
from lrm_jax.errors import UserError
from lrm_jax.planning import topologies

TOLD = {
  distributed.COORDINATOR: 'host-0:8476',
  distributed.COUNT: '4',
  distributed.INDEX: '3',
}


def test_variables_of_a_launcher():
  assert distributed.stated({}) is None
  assert distributed.stated(TOLD) == ('host-0:8476', 4, 3)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({distributed.INDEX: None}, f'{distributed.INDEX} not set'),
    ({distributed.INDEX: '4'}, 'counted from 0'),
    ({distributed.COUNT: 'four'}, "'four'"),
    ({distributed.INDEX: '-1'}, "'-1'"),
    ({distributed.COORDINATOR: 'host-0'}, 'HOST:PORT'),
  ],
)
def test_variables_that_cannot_be(changes, words):
  environment = {k: v for k, v in (TOLD | changes).items() if v is not None}
  with pytest.raises(UserError) as error:
    distributed.stated(environment)
  assert words in str(error.value)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': '10.0.0.1,10.0.0.2'}, True),
    (
      {
        'TPU_PROCESS_ADDRESSES': 'local',
        'TPU_WORKER_HOSTNAMES': '10.0.0.1,10.0.0.2',
      },
      False,
    ),
    (
      {
        'TPU_PROCESS_ADDRESSES': '10.0.0.1:8476,10.0.0.2:8476',
        'TPU_WORKER_HOSTNAMES': 'localhost',
      },
      True,
    ),
    (
      {'TPU_WORKER_HOSTNAMES': 'localhost', 'MEGASCALE_NUM_SLICES': '2'},
      True,
    ),
    ({'SLURM_NTASKS': '1'}, False),
    ({'SLURM_NTASKS': '8'}, True),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
  ],
)
def test_launchers_that_jax_knows(environment, expected):
  assert distributed.is_cluster(environment) == expected


def test_hosts_in_a_file(tmp_path):
  path = tmp_path / 'hosts'
  environment = {'TPU_PROCESS_ADDRESSES_PATH': str(path)}
  with pytest.raises(UserError, match='No such file'):
    distributed.is_cluster(environment)
  path.write_text('10.0.0.1,10.0.0.2\n')
  assert distributed.is_cluster(environment)


# What this machine may say of TPUs, which those of the tests do not.
ELSEWHERE = (
  *('JAX_PLATFORMS', 'TPU_SKIP_MDS_QUERY', 'TPU_WORKER_HOSTNAMES'),
  *('TPU_PROCESS_ADDRESSES', 'TPU_PROCESS_ADDRESSES_PATH', 'SLURM_JOB_ID'),
  *('OMPI_MCA_orte_hnp_uri', 'MEGASCALE_NUM_SLICES', 'SLURM_NTASKS'),
  *('JAX_COORDINATOR_ADDRESS', 'JAX_COORDINATOR_PORT'),
  *('KUBERNETES_SERVICE_HOST', 'OMPI_COMM_WORLD_SIZE'),
)


class TpuVm:
  """One of the TPU VMs of a slice, as JAX sees it: chips and metadata."""

  def __init__(self, monkeypatch, workers, index=0, answers=True):
    from jax._src import cloud_tpu_init
    from jax._src.clusters import cloud_tpu_cluster, cluster

    self.answers, self.asked = answers, []
    self.metadata = {
      'agent-worker-number': str(index),
      'worker-network-endpoints': ','.join(workers),
      'tpu-env': "ACCELERATOR_TYPE: 'v5litepod-16'\n",
    }
    for module in (cloud_tpu_init, cloud_tpu_cluster, cluster):
      monkeypatch.setattr(module, 'running_in_cloud_tpu_vm', True)
    monkeypatch.setattr(cloud_tpu_cluster, 'get_metadata', self.ask)
    for name in ELSEWHERE:
      monkeypatch.delenv(name, raising=False)

  def ask(self, key):
    self.asked.append(key)
    if not self.answers:
      raise ConnectionError('metadata.google.internal: no answer')
    return self.metadata[key], 200


# The two forms of the list: addresses, and names with them.
HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4']
NAMED_HOSTS = [f'unknown:{i}:{host}' for i, host in enumerate(HOSTS)]


@pytest.mark.parametrize('workers', [HOSTS, NAMED_HOSTS])
def test_tpu_vms_find_each_other(workers, monkeypatch):
  """No variable says it: the metadata server is asked."""
  TpuVm(monkeypatch, workers, index=2)
  met, connected = [], []
  monkeypatch.setattr(
    distributed.meeting, 'meet', lambda *who: met.append(who) or {}
  )
  monkeypatch.setattr(distributed.liveness, 'start', lambda *_: None)
  monkeypatch.setattr(
    distributed.jax.distributed,
    'initialize',
    lambda **known: connected.append(known),
  )
  assert not distributed.is_cluster(os.environ)
  distributed.initialize()
  # JAX's port on Cloud TPU, as the launcher's README says.
  assert met == [('127.0.0.1:8482', 4, 2, 300)]
  assert connected[0]['num_processes'] == 4
  assert connected[0]['process_id'] == 2


def test_a_tpu_vm_alone(monkeypatch):
  machine = TpuVm(monkeypatch, HOSTS[:1])
  monkeypatch.setattr(distributed.meeting, 'meet', _mistake)
  distributed.initialize()
  assert machine.asked and distributed.is_main()


@pytest.mark.parametrize(
  'environment',
  [
    topologies.NO_CHIPS,
    {'TPU_SKIP_MDS_QUERY': '1'},
    {'TPU_WORKER_HOSTNAMES': 'localhost'},
    {'TPU_PROCESS_ADDRESSES': 'local'},
    {'JAX_PLATFORMS': 'cpu'},
  ],
)
def test_nobody_is_asked_needlessly(environment, monkeypatch):
  machine = TpuVm(monkeypatch, HOSTS, answers=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  distributed.initialize()
  assert not machine.asked


def test_without_chips_nobody_is_asked(monkeypatch):
  """A laptop, be it with the compiler for TPUs or without."""
  machine = TpuVm(monkeypatch, HOSTS, answers=False)
  monkeypatch.setattr('jax._src.cloud_tpu_init.running_in_cloud_tpu_vm', False)
  distributed.initialize()
  assert not machine.asked


def test_a_tpu_vm_that_does_not_know(monkeypatch):
  """It does not go on alone: all other hosts would, too."""
  TpuVm(monkeypatch, HOSTS, answers=False)
  with pytest.raises(UserError, match='no answer; where it is alone, set'):
    distributed.initialize()


def test_how_long_to_wait_at_the_start():
  assert distributed.start_timeout({}) == 300
  assert distributed.start_timeout({distributed.START_TIMEOUT: '7'}) == 7
  for text in ('0', '-1', '1.5', 'soon', ''):
    with pytest.raises(UserError, match=f'START_TIMEOUT={text!r} is no'):
      distributed.start_timeout({distributed.START_TIMEOUT: text})


def test_what_jax_finds_out_is_used(monkeypatch):
  """Through a function of JAX that is not public: here it is missed first."""
  slurm = {
    'SLURM_JOB_ID': '7',
    'SLURM_STEP_NODELIST': 'node[3-6]',
    'SLURM_NTASKS': '4',
    'SLURM_PROCID': '2',
    'SLURM_LOCALID': '0',
    'JAX_COORDINATOR_PORT': '8476',
  }
  for name, value in slurm.items():
    monkeypatch.setenv(name, value)
  assert distributed.detected(timeout=1) == ('node3:8476', 4, 2)
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'other:1')
  assert distributed.detected(timeout=1) == ('other:1', 4, 2)


def test_alone_everything_is_as_it_was():
  tree = {'a': np.arange(6).reshape(3, 2), 'b': np.array([True, False, True])}
  assert distributed.count() == 1
  assert distributed.is_main()
  assert distributed.mine() == slice(None)
  for same in (
    distributed.together(tree, 3),
    distributed.whole(tree),
    distributed.of_main(tree),
  ):
    assert same is tree
  assert distributed.from_main(lambda: {'any': 'thing'}) == {'any': 'thing'}
  assert distributed.any_of(True) and not distributed.any_of(False)
  with pytest.raises(UserError, match='mistake'):
    distributed.from_main(_mistake)


def _mistake(*_):
  raise UserError('mistake')
