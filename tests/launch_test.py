"""What the launcher would do, read from its dry runs."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from jax._src.clusters.cloud_tpu_cluster import coordinator_port

from experiments.launch import launch, slices
from lrm_jax import distributed, liveness, main

COMMAND = ['train', '--config=configs/dler_r1_1p5b.py', '--workdir=/mnt/run']
VM = ['--name=dler', '--zone=us-west4-a', '--source=gs://b/lrm.tar.gz']


def dry(capsys, way, *flags):
  """The commands of a dry run, taken apart."""
  options = launch.parse([way, *flags, '--dry-run', '--', *COMMAND])
  launch.WAYS[way](launch.Shell(is_dry=True), options)
  out = capsys.readouterr().out
  return out, [shlex.split(x[2:]) for x in out.splitlines() if x[:2] == '+ ']


@pytest.mark.parametrize(
  ('topology', 'accelerator', 'hosts'),
  [
    ('v5e:4x4', 'v5litepod-16', 4),
    ('v5p:4x4x4', 'v5p-128', 16),
    ('v5p:4x4x8', 'v5p-256', 32),
    ('v6e:8x8', 'v6e-64', 16),
    ('v4:2x2x2', 'v4-16', 2),
  ],
)
def test_topologies(topology, accelerator, hosts):
  found = slices.parse_topology(topology)
  assert (found.accelerator, found.hosts) == (accelerator, hosts)


@pytest.mark.parametrize(
  'text', ['v5e', 'v5e:4', 'v9:4x4', 'v5e:0x4', 'v5e:axb']
)
def test_topologies_that_cannot_be(text, capsys):
  with pytest.raises(SystemExit) as error:
    slices.parse_topology(text)
  assert error.value.code == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_a_tpu_vm_is_made_used_and_deleted(capsys):
  _, commands = dry(capsys, 'vm', '--topology=v5e:4x4', *VM, '--spot')
  assert [command[4] for command in commands] == ['create', 'ssh', 'delete']
  create, ssh, _ = commands
  assert {'--accelerator-type=v5litepod-16', '--spot'} <= set(create)
  assert '--worker=all' in ssh
  assert all('--zone=us-west4-a' in command for command in commands)
  # What every host runs is shell, and ends in the command as it was given.
  (script,) = [word for word in ssh if word.startswith('--command=')]
  script = script.removeprefix('--command=')
  assert script.endswith(f'env/bin/lrm {shlex.join(COMMAND)}')
  assert (
    subprocess.run(['bash', '-n', '-c', script], check=False).returncode == 0
  )


def test_hosts_get_a_python_that_is_new_enough(tmp_path):
  """The lines are run, with the commands of a host replaced by their names."""
  options = launch.parse(['vm', '--topology=v5e:4x4', *VM, '--', *COMMAND])
  setup = (launch.ROOT / 'setup.py').read_text()
  least, below = re.search(r"'>=3\.(\d+),<3\.(\d+)'", setup).groups()
  assert int(least) <= int(launch.PYTHON.removeprefix('3.')) < int(below)
  uv = tmp_path / '.local' / 'bin' / 'uv'
  uv.parent.mkdir(parents=True)
  programs = {uv: 'uv'}
  programs |= {tmp_path / name: name for name in ('gcloud', 'tar', 'pip3')}
  for path, name in programs.items():
    # What would be made is made, so that a second start finds it.
    path.write_text(
      f'#!/bin/sh\necho {name} "$@" >> "$HOME/log"\n'
      'if [ "$1" = venv ]; then\n'
      '  mkdir -p env/bin; ln -s /bin/true env/bin/lrm\n'
      'fi\n'
    )
    path.chmod(0o755)
  environment = {'HOME': str(tmp_path), 'PATH': f'{tmp_path}:/usr/bin:/bin'}
  for _ in range(2):
    subprocess.run(
      ['bash', '-c', launch.on_host(options)],
      check=True,
      cwd=tmp_path,
      env=environment,
    )
  assert (tmp_path / 'log').read_text().splitlines() == [
    'gcloud storage cp gs://b/lrm.tar.gz source.tar.gz',
    'tar xzf source.tar.gz',
    'pip3 install --quiet --user uv',
    'uv venv --quiet --python 3.12 env',
    'uv pip install --quiet --python env/bin/python -e .[tpu,gcs]',
  ]


def test_keep_leaves_the_tpu(capsys):
  _, commands = dry(capsys, 'vm', '--topology=v5e:4x4', *VM, '--keep')
  assert [command[4] for command in commands] == ['create', 'ssh']


def test_a_queued_resource_is_waited_for(capsys):
  _, commands = dry(capsys, 'queued', '--topology=v6e:8x8', *VM, '--spot')
  verbs = [command[4] for command in commands]
  assert verbs == ['create', 'describe', 'ssh', 'delete']
  assert '--node-id=dler' in commands[0]


class Cloud(launch.Shell):
  """Answers as a cloud would that takes the TPU away once.

  A state of None is a look that fails.
  """

  def __init__(self, states, failures):
    super().__init__(is_dry=True)
    self.states, self.failures = list(states), failures
    self.ran, self.slept = [], 0

  def run(self, *command, may_fail=False):
    self.ran.append(command[4])
    if command[4] == 'ssh' and self.failures:
      self.failures -= 1
      raise subprocess.CalledProcessError(1, command)

  def read(self, *command):
    state = self.states.pop(0)
    if state is None:
      raise subprocess.CalledProcessError(1, command)
    return state

  def sleep(self):
    self.slept += 1


ONCE = ['create', 'ssh', 'delete']


def queued(cloud, *flags):
  launch.queued(
    cloud,
    launch.parse(['queued', '--topology=v6e:8x8', *VM, *flags, 'train']),
  )
  assert not cloud.states
  return cloud


def test_what_is_taken_away_is_asked_for_again():
  states = ['WAITING_FOR_RESOURCES', 'ACTIVE', 'SUSPENDED', 'ACTIVE']
  assert queued(Cloud(states, failures=1)).ran == ONCE * 2


def test_what_is_lost_is_not_kept():
  cloud = Cloud(['ACTIVE', 'SUSPENDED', 'ACTIVE'], failures=1)
  assert queued(cloud, '--keep').ran == [*ONCE, 'create', 'ssh']


def test_what_is_taken_away_may_be_active_for_a_moment():
  states = ['ACTIVE', 'ACTIVE', 'ACTIVE', 'SUSPENDING', 'ACTIVE']
  cloud = queued(Cloud(states, failures=1))
  assert cloud.ran == ONCE * 2
  # Twice between looks, and once before it is asked for again.
  assert cloud.slept == 3


def test_a_run_that_fails_by_itself_is_not_tried_again():
  cloud = Cloud(['ACTIVE'] * (1 + launch.LOOKS_AFTER_FAILURE), failures=1)
  with pytest.raises(subprocess.CalledProcessError):
    queued(cloud)
  assert cloud.ran == ONCE
  assert not cloud.states


def test_a_request_that_cannot_be_is_not_made_again():
  cloud = Cloud(['CREATING', 'FAILED'], failures=0)
  with pytest.raises(launch.LaunchError, match='request failed'):
    queued(cloud)
  # Its description says why, before it is deleted.
  assert cloud.ran == ['create', 'describe', 'delete']


def test_a_request_that_was_once_fulfilled_is_made_again():
  states = ['ACTIVE', 'SUSPENDED', 'FAILED', 'SUSPENDED', 'ACTIVE']
  cloud = queued(Cloud(states, failures=1))
  assert cloud.ran == [*ONCE, *('create', 'delete') * 2, *ONCE]
  assert cloud.slept == 3


def test_a_look_that_fails_is_no_answer():
  states = [None, 'ACTIVE', None, None, 'SUSPENDED', None, 'ACTIVE']
  assert queued(Cloud(states, failures=1)).ran == ONCE * 2


def test_when_all_looks_fail():
  cloud = Cloud([None] * launch.FAILED_LOOKS, failures=0)
  with pytest.raises(subprocess.CalledProcessError):
    queued(cloud)
  assert cloud.slept == launch.FAILED_LOOKS - 1


def script(environment, *flags):
  """The launcher, for a queued resource."""
  return subprocess.run(
    [sys.executable, launch.__file__, 'queued', '--topology=v5e:4x4', *VM]
    + [*flags, '--', *COMMAND],
    capture_output=True,
    text=True,
    check=False,
    env=environment,
  )


def test_what_gcloud_says_of_an_error_is_shown(tmp_path):
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text('#!/bin/sh\necho no quota >&2\nexit 1\n')
  gcloud.chmod(0o755)
  done = script({'PATH': str(tmp_path)})
  assert done.returncode == 2
  assert done.stderr.startswith('no quota\nlaunch: error: gcloud')
  # Of a command whose answer is read, too.
  with pytest.raises(subprocess.CalledProcessError) as error:
    launch.Shell(is_dry=False).read(str(gcloud), *'compute tpus'.split())
  assert error.value.stderr is None


def test_without_gcloud(tmp_path):
  done = script({'PATH': str(tmp_path)})
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert 'there is no gcloud on this machine' in done.stderr


def test_a_jobset(capsys):
  flags = ['--name=dler', '--image=repo/lrm', '--queue=tpus', '--spot']
  out, commands = dry(capsys, 'gke', '--topology=v5p:4x4x4', *flags)
  found = json.loads(out[: out.rindex('+')])
  (job,) = found['spec']['replicatedJobs']
  assert job['template']['spec']['parallelism'] == 16
  pod = job['template']['spec']['template']['spec']
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v5p-slice',
    'cloud.google.com/gke-tpu-topology': '4x4x4',
    'cloud.google.com/gke-spot': 'true',
  }
  (container,) = pod['containers']
  assert container['command'] == ['lrm', *COMMAND]
  assert container['resources']['limits'] == {'google.com/tpu': '4'}
  assert {'containerPort': int(coordinator_port)} in container['ports']
  assert found['metadata']['labels'] == {'kueue.x-k8s.io/queue-name': 'tpus'}
  assert commands == [['kubectl', 'apply', '--filename=dler.json']]


def test_a_jobset_does_not_make_a_mistake_again():
  """Exit code 2 ends it, by a policy of the job and one of the set."""
  flags = ['--topology=v5p:4x4x4', '--name=dler', '--image=repo/lrm']
  spec = launch.jobset(launch.parse(['gke', *flags, *COMMAND[:1]]))['spec']
  job = spec['replicatedJobs'][0]['template']['spec']
  pod = job['template']['spec']
  # Without it Kubernetes refuses the policy.
  assert pod['restartPolicy'] == 'Never'
  (rule,) = job['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob'
  assert rule['onExitCodes'] == {
    'containerName': pod['containers'][0]['name'],
    'operator': 'In',
    'values': [main.main(['lrm', 'no-such-verb'])],
  }
  assert liveness.LOST not in rule['onExitCodes']['values']
  policy = spec['failurePolicy']
  assert policy['maxRestarts'] == 100
  (rule,) = policy['rules']
  assert rule['action'] == 'FailJobSet'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']


@pytest.mark.parametrize('way', ['vm', 'gke'])
def test_hosts_wait_for_those_that_install_longer(way, capsys):
  flags = {'vm': VM, 'gke': ['--name=dler', '--image=repo/lrm']}[way]
  out, _ = dry(capsys, way, '--topology=v5e:4x4', *flags)
  assert distributed.START_TIMEOUT in out
  value = launch.START['value']
  assert distributed.start_timeout({launch.START['name']: value}) == 1800


@pytest.mark.parametrize('way', ['vm', 'gke'])
def test_a_run_that_was_stopped_is_not_over(way, capsys, monkeypatch):
  flags = {'vm': VM, 'gke': ['--name=dler', '--image=repo/lrm']}[way]
  out, _ = dry(capsys, way, '--topology=v5e:4x4', *flags)
  assert launch.STOP['name'] in out
  monkeypatch.setenv(launch.STOP['name'], launch.STOP['value'])
  assert main.stop_code() == liveness.LOST


def test_what_is_missing_is_said(capsys):
  with pytest.raises(SystemExit) as error:
    launch.parse(['vm', '--topology=v5e:4x4', '--name=x', '--', 'train'])
  assert error.value.code == 2
  assert '--zone and --source' in capsys.readouterr().err


@pytest.mark.parametrize('flag', ['--dry-run', '--dry_run'])
def test_a_dry_run_in_two_spellings(flag):
  options = launch.parse(
    ['vm', '--topology=v5e:4x4', *VM, flag, '--', *COMMAND]
  )
  assert options.dry_run


def test_it_runs_as_a_script():
  done = subprocess.run(
    [sys.executable, launch.__file__, 'vm', '--topology=v5e:4x4', *VM]
    + ['--dry-run', '--', *COMMAND],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.startswith('+ gcloud compute tpus tpu-vm create dler')
