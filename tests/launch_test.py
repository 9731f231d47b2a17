"""What the launcher would do, read from its dry runs."""

import json
import shlex
import subprocess
import sys

import pytest

from experiments.launch import launch

COMMAND = ['train', '--config=configs/dler_r1_1p5b.py', '--workdir=/mnt/run']
VM = ['--name=dler', '--zone=us-west4-a', '--source=gs://b/lrm.tar.gz']


def dry(capsys, way, *flags):
  """The commands of a dry run, taken apart."""
  options = launch.parse([way, *flags, '--dry_run', '--', *COMMAND])
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
  found = launch.parse_topology(topology)
  assert (found.accelerator, found.hosts) == (accelerator, hosts)


@pytest.mark.parametrize(
  'text', ['v5e', 'v5e:4', 'v9:4x4', 'v5e:0x4', 'v5e:axb']
)
def test_topologies_that_cannot_be(text, capsys):
  with pytest.raises(SystemExit) as error:
    launch.parse_topology(text)
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


def test_keep_leaves_the_tpu(capsys):
  _, commands = dry(capsys, 'vm', '--topology=v5e:4x4', *VM, '--keep')
  assert [command[4] for command in commands] == ['create', 'ssh']


def test_a_queued_resource_is_waited_for(capsys):
  _, commands = dry(capsys, 'queued', '--topology=v6e:8x8', *VM, '--spot')
  verbs = [command[4] for command in commands]
  assert verbs == ['create', 'describe', 'ssh', 'delete']
  assert '--node-id=dler' in commands[0]


class Cloud(launch.Shell):
  """Answers as a cloud would that takes the TPU away once."""

  def __init__(self, states, failures):
    super().__init__(is_dry=True)
    self.states, self.failures, self.ran = list(states), failures, []

  def run(self, *command, may_fail=False):
    self.ran.append(command[4])
    if command[4] == 'ssh' and self.failures:
      self.failures -= 1
      raise subprocess.CalledProcessError(1, command)

  def read(self, *command):
    return self.states.pop(0)


def queued(states, failures):
  cloud = Cloud(states, failures)
  launch.queued(
    cloud, launch.parse(['queued', '--topology=v6e:8x8', *VM, *COMMAND[:1]])
  )
  return cloud


def test_what_is_taken_away_is_asked_for_again():
  states = ['WAITING_FOR_RESOURCES', 'ACTIVE', 'SUSPENDED', 'ACTIVE']
  cloud = queued(states, failures=1)
  once = ['create', 'ssh', 'delete']
  assert cloud.ran == once * 2
  assert not cloud.states


def test_a_run_that_fails_by_itself_is_not_tried_again():
  with pytest.raises(subprocess.CalledProcessError):
    queued(['ACTIVE', 'ACTIVE'], failures=1)


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
  assert found['metadata']['labels'] == {'kueue.x-k8s.io/queue-name': 'tpus'}
  assert commands == [['kubectl', 'apply', '--filename=dler.json']]


def test_what_is_missing_is_said(capsys):
  with pytest.raises(SystemExit) as error:
    launch.parse(['vm', '--topology=v5e:4x4', '--name=x', '--', 'train'])
  assert error.value.code == 2
  assert '--zone and --source' in capsys.readouterr().err


def test_it_runs_as_a_script():
  done = subprocess.run(
    [sys.executable, launch.__file__, 'vm', '--topology=v5e:4x4', *VM]
    + ['--dry_run', '--', *COMMAND],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.startswith('+ gcloud compute tpus tpu-vm create dler')
