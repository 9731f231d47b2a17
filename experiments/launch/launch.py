"""Runs `lrm` on a TPU pod: a TPU VM, a queued one, or a Kubernetes JobSet.

  python experiments/launch/launch.py vm --topology=v5e:4x4 --name=dler \
      --zone=us-west4-a --source=gs://bucket/lrm_jax.tar.gz -- \
      train --config=configs/dler_r1_1p5b.py --workdir=/mnt/bucket/runs/dler

What stands behind `--` is the `lrm` command, the same on every host. With
`--dry_run` the commands are printed and nothing is done. Needs `gcloud`, and
`kubectl` for `gke`; see README.md.
"""

import argparse
import contextlib
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Generation(NamedTuple):
  """How Google Cloud calls a generation of TPUs.

  Attributes:
    accelerator: with `{}` for the number in the name of a slice.
    cores: that this number counts for each chip.
    runtime: the image of its virtual machines.
    node: the label of its nodes in Kubernetes.
    chips: of a host in a slice of several.
  """

  accelerator: str
  cores: int
  runtime: str
  node: str
  chips: int


GENERATIONS = {
  'v4': Generation('v4-{}', 2, 'tpu-ubuntu2204-base', 'tpu-v4-podslice', 4),
  'v5e': Generation(
    'v5litepod-{}', 1, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice', 4
  ),
  'v5p': Generation('v5p-{}', 2, 'v2-alpha-tpuv5', 'tpu-v5p-slice', 4),
  'v6e': Generation('v6e-{}', 1, 'v2-alpha-tpuv6e', 'tpu-v6e-slice', 4),
}
# A queued resource that has gone this way has to be asked for anew.
LOST = ('SUSPENDED', 'SUSPENDING', 'FAILED')
SECONDS_BETWEEN_LOOKS = 60
# Where the project lies on a host, and what a start leaves there.
FOLDER = 'lrm_jax'


class Slice(NamedTuple):
  """A topology such as `v5e:4x4`, taken apart."""

  generation: Generation
  grid: str
  chips: int

  @property
  def accelerator(self) -> str:
    """Its name, such as v5litepod-16."""
    count = self.chips * self.generation.cores
    return self.generation.accelerator.format(count)

  @property
  def hosts(self) -> int:
    """Virtual machines, or pods in Kubernetes."""
    return -(-self.chips // self.generation.chips)


def parse_topology(text: str) -> Slice:
  """`v5p:4x4x8` -> a Slice; SystemExit(2) with a line for anything else."""
  name, _, grid = text.partition(':')
  sides = grid.split('x')
  is_grid = len(sides) in (2, 3) and all(side.isdecimal() for side in sides)
  if name not in GENERATIONS or not is_grid or '0' in sides:
    print(
      f'launch: error: --topology={text!r} is not one of '
      f'{", ".join(GENERATIONS)} with its grid, such as v5e:4x4 or v5p:4x4x8',
      file=sys.stderr,
    )
    raise SystemExit(2)
  return Slice(GENERATIONS[name], grid, math.prod(map(int, sides)))


class Shell:
  """Runs commands, or only prints them."""

  def __init__(self, is_dry: bool):
    """`is_dry`: print."""
    self.is_dry = is_dry

  def run(self, *command: str, may_fail: bool = False) -> None:
    """Prints a command, and waits for its end."""
    print('+', shlex.join(command), flush=True)
    if not self.is_dry:
      subprocess.run(command, check=not may_fail)

  def read(self, *command: str) -> str:
    """What a command says; 'ACTIVE' in a dry run."""
    print('+', shlex.join(command), flush=True)
    if self.is_dry:
      return 'ACTIVE'
    return subprocess.run(
      command, check=True, capture_output=True, text=True
    ).stdout.strip()

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
      'python3 -m venv env',
      "env/bin/pip install --quiet -e '.[tpu]'",
      'touch installed',
    ]
  )
  return (
    f'([ -e {FOLDER}/installed ] || ({install})) && cd {FOLDER} && '
    f'env/bin/lrm {shlex.join(options.command)}'
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
  look = (*base, 'describe', *place, '--format=value(state.state)')
  is_over = False
  while not is_over:
    with requested(shell, options, (*base, 'create', *place)):
      while shell.read(*look) not in ('ACTIVE', *LOST):
        shell.sleep()
      try:
        start(shell, options)
        is_over = True
      except subprocess.CalledProcessError:
        # The run's own mistake would only be made again.
        if shell.read(*look) not in LOST:
          raise


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
      delete = [word if word != 'create' else 'delete' for word in create]
      shell.run(*delete, '--force', '--quiet', may_fail=True)


def gke(shell: Shell, options: argparse.Namespace) -> None:
  """A JobSet in the cluster of kubectl; Kueue queues it where `--queue` says.

  Kubernetes starts all pods again when one is lost, and the run goes on.
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
    'ports': [{'containerPort': 8471}, {'containerPort': 8080}],
    'resources': {'limits': {'google.com/tpu': chips}},
  }
  pod = {
    'restartPolicy': 'Never',
    'nodeSelector': selector,
    # Time to save a checkpoint when the node is taken away.
    'terminationGracePeriodSeconds': 120,
    'containers': [container],
  }
  job = {
    'parallelism': where.hosts,
    'completions': where.hosts,
    'backoffLimit': 0,
    'template': {'spec': pod},
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
      'failurePolicy': {'maxRestarts': options.restarts},
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
  add('--dry_run', action='store_true', help='print the commands only')
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
  except subprocess.CalledProcessError as error:
    print(
      f'launch: error: {shlex.join(error.cmd)} ended with {error.returncode}',
      file=sys.stderr,
    )
    sys.exit(2)


if __name__ == '__main__':
  main()
