"""Runs `lrm` on a TPU pod: a TPU VM, a queued one, or a Kubernetes JobSet.

  python experiments/launch/launch.py vm --topology=v5e:4x4 --name=dler \
      --zone=us-west4-a --source=gs://bucket/lrm_jax.tar.gz -- \
      train --config=configs/dler_r1_1p5b.py --workdir=gs://bucket/runs/dler

What stands behind `--` is the `lrm` command, the same on every host. With
`--dry-run` the commands are printed and nothing is done. Needs `gcloud`, and
`kubectl` for `gke`; see README.md.
"""

import argparse
import contextlib
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for a start as a script

from experiments.launch.slices import parse_topology  # noqa: E402

# A queued resource that has gone this way has to be asked for anew.
LOST = ('SUSPENDED', 'SUSPENDING', 'FAILED')
SECONDS_BETWEEN_LOOKS = 60
# Looks after a command that failed: one whose slice is taken away may read
# ACTIVE for some minutes.
LOOKS_AFTER_FAILURE = 5
# So many looks in a row may fail.
FAILED_LOOKS = 10
# Where the project lies on a host, and what a start leaves there.
FOLDER = 'lrm_jax'
# The images have Ubuntu 22.04 with Python 3.10, which is too old, and no
# `ensurepip`; uv brings a Python of its own.
PYTHON = '3.12'
UV = '~/.local/bin/uv'
INSTALL_UV = (
  '(pip3 install --quiet --user uv || '
  'curl -LsSf https://astral.sh/uv/install.sh | sh)'
)

# Seconds for all hosts to come; some install, or pull an image, for longer.
START = {'name': 'LRM_START_TIMEOUT', 'value': '1800'}
# The exit code of a run that a signal has stopped: with 0, which it has
# elsewhere, a slice that is taken away would look like the end of the run.
STOP = {'name': 'LRM_STOP_CODE', 'value': '75'}
# Of the TPU's runtime, of several slices, and of JAX's coordinator.
PORTS = (8471, 8080, 8482)
# `lrm` ends with it for a mistake in its command, which would be made again.
MISTAKE = 2


class LaunchError(Exception):
  """What the user has to know, in one line."""


class Shell:
  """Runs commands, or only prints them.

  What they say of errors goes where the launcher's own errors go.
  """

  def __init__(self, is_dry: bool):
    """`is_dry`: print."""
    self.is_dry = is_dry

  def run(self, *command: str, may_fail: bool = False) -> None:
    """Prints a command, and waits for its end."""
    print('+', shlex.join(command), flush=True)
    if not self.is_dry:
      self._call(command, check=not may_fail)

  def read(self, *command: str) -> str:
    """What a command says; 'ACTIVE' in a dry run."""
    print('+', shlex.join(command), flush=True)
    if self.is_dry:
      return 'ACTIVE'
    done = self._call(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()

  def _call(
    self, command: Sequence[str], **options: Any
  ) -> subprocess.CompletedProcess:
    try:
      return subprocess.run(command, **options)
    except FileNotFoundError:
      raise LaunchError(
        f'there is no {command[0]} on this machine; install it, or see the '
        'commands with --dry-run'
      ) from None

  def sleep(self) -> None:
    """Until the next look."""
    if not self.is_dry:
      time.sleep(SECONDS_BETWEEN_LOOKS)


def on_host(options: argparse.Namespace) -> str:
  """The shell command that every host runs: installs, then `lrm`.

  A start that finds the environment of an earlier one does not install again.
  """
  install = ' && '.join(
    [
      f'mkdir -p {FOLDER}',
      f'cd {FOLDER}',
      f'gcloud storage cp {shlex.quote(options.source)} source.tar.gz',
      'tar xzf source.tar.gz',
      INSTALL_UV,
      'rm -rf env',
      f'{UV} venv --quiet --python {PYTHON} env',
      f"{UV} pip install --quiet --python env/bin/python -e '.[tpu,gcs]'",
      'touch installed',
    ]
  )
  return (
    f'([ -e {FOLDER}/installed ] || ({install})) && cd {FOLDER} && '
    f'{START["name"]}={START["value"]} {STOP["name"]}={STOP["value"]} '
    'env/bin/lrm '
    f'{shlex.join(options.command)}'
  )


def tpu(options: argparse.Namespace, *words: str) -> list[str]:
  """A command of gcloud about this TPU VM."""
  return [
    *('gcloud', 'compute', 'tpus', 'tpu-vm', *words),
    *(options.name, f'--zone={options.zone}'),
  ]


def start(shell: Shell, options: argparse.Namespace) -> None:
  """Runs the command on all hosts, and shows what they say."""
  shell.run(
    *tpu(options, 'ssh'), '--worker=all', f'--command={on_host(options)}'
  )


def vm(shell: Shell, options: argparse.Namespace) -> None:
  """A TPU VM: made, used, deleted."""
  where = parse_topology(options.topology)
  shell.run(
    *tpu(options, 'create'),
    f'--accelerator-type={where.accelerator}',
    f'--version={where.generation.runtime}',
    *(['--spot'] if options.spot else []),
  )
  try:
    start(shell, options)
  finally:
    if not options.keep:
      shell.run(*tpu(options, 'delete'), '--quiet')


def queued(shell: Shell, options: argparse.Namespace) -> None:
  """A queued resource: waited for, used, and asked for anew when it is lost.

  The run goes on where its last checkpoint is: `lrm train` resumes a workdir.
  """
  base = ('gcloud', 'compute', 'tpus', 'queued-resources')
  place = (options.name, f'--zone={options.zone}')
  look = (*base, 'describe', *place)
  is_over = had_one = False
  while not is_over:
    with requested(shell, options, (*base, 'create', *place)):
      if is_active(shell, look, is_known=had_one):
        had_one = True
        try:
          start(shell, options)
          is_over = True
        except subprocess.CalledProcessError:
          # The run's own mistake would only be made again.
          if not is_taken_away(shell, look):
            raise
    if not is_over:
      if options.keep:  # There is nothing left to keep, and the name is taken.
        withdraw(shell, (*base, 'delete', *place))
      shell.sleep()


def is_active(shell: Shell, look: Sequence[str], is_known: bool) -> bool:
  """Waits for a queued resource; False if it is lost before it is there.

  Args:
    shell: runs the commands.
    look: the command that describes the resource.
    is_known: such a request was once fulfilled, so that it has no mistake.

  Raises:
    LaunchError: it failed, and would again: no quota, or a name mistyped.
  """
  while (now := state(shell, look)) not in ('ACTIVE', *LOST):
    shell.sleep()
  if now == 'FAILED' and not is_known:
    shell.run(*look, may_fail=True)
    raise LaunchError('the request failed; its description above says why')
  return now == 'ACTIVE'


def is_taken_away(shell: Shell, look: Sequence[str]) -> bool:
  """Whether a slice on which a command failed is lost; looks for minutes."""
  for attempt in range(LOOKS_AFTER_FAILURE):
    if attempt:
      shell.sleep()
    if state(shell, look) in LOST:
      return True
  return False


def state(shell: Shell, look: Sequence[str]) -> str:
  """Of a queued resource; looks again where a look fails.

  Raises:
    subprocess.CalledProcessError: every look fails.
  """
  for _ in range(FAILED_LOOKS - 1):
    try:
      return shell.read(*look, '--format=value(state.state)')
    except subprocess.CalledProcessError:
      shell.sleep()
  return shell.read(*look, '--format=value(state.state)')


@contextlib.contextmanager
def requested(
  shell: Shell, options: argparse.Namespace, create: Sequence[str]
) -> Iterator[None]:
  """A queued resource for a while; what is lost is deleted too."""
  where = parse_topology(options.topology)
  shell.run(
    *create,
    f'--node-id={options.name}',
    f'--accelerator-type={where.accelerator}',
    f'--runtime-version={where.generation.runtime}',
    *(['--spot'] if options.spot else []),
  )
  try:
    yield
  finally:
    if not options.keep:
      withdraw(
        shell, [word if word != 'create' else 'delete' for word in create]
      )


def withdraw(shell: Shell, delete: Sequence[str]) -> None:
  """Deletes a queued resource with its slice, be they there or not."""
  shell.run(*delete, '--force', '--quiet', may_fail=True)


def gke(shell: Shell, options: argparse.Namespace) -> None:
  """A JobSet in the cluster of kubectl; Kueue queues it where `--queue` says.

  Kubernetes starts all pods again when one is lost, and the run goes on; where
  the command is wrong, it does not.
  """
  text = json.dumps(jobset(options), indent=2)
  print(text)
  path = f'{options.name}.json'
  if not shell.is_dry:
    with open(path, 'w', encoding='utf-8') as file:
      file.write(text)
  shell.run('kubectl', 'apply', f'--filename={path}')


def jobset(options: argparse.Namespace) -> dict:
  """The JobSet; kubectl takes JSON."""
  where = parse_topology(options.topology)
  chips = str(min(where.chips, where.generation.chips))
  selector = {
    'cloud.google.com/gke-tpu-accelerator': where.generation.node,
    'cloud.google.com/gke-tpu-topology': where.grid,
  }
  if options.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
  labels = {}
  if options.queue:
    labels['kueue.x-k8s.io/queue-name'] = options.queue
  container = {
    'name': 'lrm',
    'image': options.image,
    'command': ['lrm', *options.command],
    'env': [START, STOP],
    'ports': [{'containerPort': port} for port in PORTS],
    'resources': {'limits': {'google.com/tpu': chips}},
  }
  pod = {
    'restartPolicy': 'Never',
    'nodeSelector': selector,
    # Time to save a checkpoint when the node is taken away.
    'terminationGracePeriodSeconds': 120,
    'containers': [container],
  }
  exit_codes = {
    'containerName': container['name'],
    'operator': 'In',
    'values': [MISTAKE],
  }
  job = {
    'parallelism': where.hosts,
    'completions': where.hosts,
    'backoffLimit': 0,
    # The job then fails for a reason of its own, which `rule` knows.
    'podFailurePolicy': {
      'rules': [{'action': 'FailJob', 'onExitCodes': exit_codes}]
    },
    'template': {'spec': pod},
  }
  rule = {
    'name': 'mistake',
    'action': 'FailJobSet',
    'onJobFailureReasons': ['PodFailurePolicy'],
  }
  topology = 'alpha.jobset.sigs.k8s.io/exclusive-topology'
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {
      'name': options.name,
      'labels': labels,
      'annotations': {topology: 'cloud.google.com/gke-nodepool'},
    },
    'spec': {
      'failurePolicy': {'maxRestarts': options.restarts, 'rules': [rule]},
      'replicatedJobs': [
        {'name': 'slice', 'replicas': 1, 'template': {'spec': job}}
      ],
    },
  }


WAYS = {'vm': vm, 'queued': queued, 'gke': gke}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('way', choices=WAYS)
  add = parser.add_argument
  add('--topology', required=True, help='such as v5e:4x4 or v5p:4x4x8')
  add('--name', required=True, help='of the TPU, or of the JobSet')
  add('--zone', help='vm, queued: such as us-west4-a')
  add('--source', help='vm, queued: gs://... .tar.gz of this project')
  add('--image', help='gke: a container image that has lrm')
  add('--queue', help='gke: a local queue of Kueue')
  add('--restarts', type=int, default=100, help='gke: at most')
  add('--spot', action='store_true', help='cheaper, and may be taken away')
  add('--keep', action='store_true', help='do not delete the TPU at the end')
  add(
    *('--dry-run', '--dry_run'),
    action='store_true',
    help='print the commands only',
  )
  add('command', nargs='+', help='behind --: train --config=... ')
  options = parser.parse_args(arguments)
  needed = ('image',) if options.way == 'gke' else ('zone', 'source')
  missing = [name for name in needed if getattr(options, name) is None]
  if missing:
    parser.error(f'{options.way} needs --{" and --".join(missing)}')
  return options


def main() -> None:
  """Launches."""
  options = parse(sys.argv[1:])
  try:
    WAYS[options.way](Shell(options.dry_run), options)
  except LaunchError as error:
    print(f'launch: error: {error}', file=sys.stderr)
    sys.exit(2)
  except subprocess.CalledProcessError as error:
    print(
      f'launch: error: {shlex.join(error.cmd)} ended with {error.returncode}',
      file=sys.stderr,
    )
    sys.exit(2)


if __name__ == '__main__':
  main()
