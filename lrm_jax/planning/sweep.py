"""Plans of an update under several settings, and the best of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from lrm_jax import configuration
from lrm_jax.errors import UserError
from lrm_jax.planning import plan as planning
from lrm_jax.planning import topologies
from lrm_jax.planning.steps import Workload
from lrm_jax.reporting import tables

AUTO = 'auto'
GIB = 2**30


def run(
  config: ml_collections.ConfigDict,
  topology: str,
  workloads: Sequence[Workload],
  stated: Sequence[str],
) -> dict[str, Any]:
  """Plans the update under every combination.

  Args:
    config: of `lrm train`.
    topology: see `topologies.find`.
    workloads: one of them.
    stated: KEY=VALUE,VALUE,... each, or AUTO.

  Returns:
    `tried`: each with its `settings`, `fits`, bytes and seconds; those that
    nothing else beats in both have `is_best`. A combination that `lrm train`
    would refuse has its `reason`.

  Raises:
    UserError: several workloads, or values that are not stated so.
  """
  if len(workloads) > 1:
    raise UserError(
      f'--response_tokens: {len(workloads)} lengths with --sweep, which looks '
      'at one; give one'
    )
  devices = len(topologies.find(topology))
  grid = automatic(config, devices) if AUTO in stated else {}
  grid |= dict(map(read, (each for each in stated if each != AUTO)))
  tried = []
  for values in itertools.product(*grid.values()):
    settings = dict(zip(grid, values, strict=True))
    tried.append(one(config, topology, workloads, settings))
  for each in tried:
    each['is_best'] = is_best(each, tried)
  return {'topology': topology, 'tried': tried}


def automatic(
  config: ml_collections.ConfigDict, devices: int
) -> dict[str, list[str]]:
  """Meshes of fsdp and tensor, one to four rows on a device, remat."""
  most = config.mesh.context
  return {
    'mesh.tensor': [str(n) for n in (1, 2, 4) if devices % (n * most) == 0],
    'train.rows': [str(n * devices // most) for n in (1, 2, 4)],
    'model.remat': ['full', 'dots'],
  }


def read(stated: str) -> tuple[str, list[str]]:
  """KEY=VALUE,VALUE,... as a key and its values.

  Raises:
    UserError: it is not.
  """
  key, _, values = stated.partition('=')
  if not key or not values:
    raise UserError(
      f'--sweep={stated!r}: give a key and its values, such as '
      f'train.rows=64,128, or {AUTO}'
    )
  return key, values.split(',')


def one(
  config: ml_collections.ConfigDict,
  topology: str,
  workloads: Sequence[Workload],
  settings: Mapping[str, str],
) -> dict[str, Any]:
  """The plan of an update under these settings, in a few numbers."""
  changed = config.copy_and_resolve_references()
  configuration.apply(
    changed, [f'config.{key}={value}' for key, value in settings.items()]
  )
  found = {'settings': dict(settings)}
  try:
    made = planning.plan(changed, topology, workloads, samples=False)
  except UserError as error:
    return found | {'fits': False, 'reason': str(error)}
  found['fits'] = made['fits']
  if made['refused']:
    return found | {'reason': made['refused']['update']}
  found['bytes'] = made['memory']['update']['total']
  found['activations'] = made['memory']['update']['activations']
  if 'steps' in made:
    found |= made['steps'][0]['update']
  return found


def is_best(
  each: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]
) -> bool:
  """Whether it fits, and nothing that fits is better in memory and time."""
  if not each['fits'] or 'seconds' not in each:
    return False
  better = lambda other: (
    other['fits']
    and 'seconds' in other
    and other['bytes'] <= each['bytes']
    and other['seconds'] <= each['seconds']
    and (other['bytes'], other['seconds']) != (each['bytes'], each['seconds'])
  )
  return not any(better(other) for other in tried)


def text(found: Mapping[str, Any]) -> str:
  """A row for each combination; * marks the best."""
  rows, reasons = [], []
  for each in found['tried']:
    name = ' '.join(
      f'{key.rpartition(".")[2]}={value}'
      for key, value in each['settings'].items()
    )
    if 'bytes' not in each:
      rows.append((name, *['-'] * 6, ''))
      reasons.append(f'{name}: {each["reason"]}')
      continue
    numbers = ['-'] * 4
    if 'seconds' in each:
      numbers = [
        f'{each["seconds"]:.3g}',
        each['bound_by'],
        f'{100 * each["mfu_bound"]:.0f}',
        f'{100 * each["mfu_compute"]:.0f}',
      ]
    mark = '*' if each['is_best'] else '' if each['fits'] else 'no'
    sizes = (f'{each[k] / GIB:.2f}' for k in ('bytes', 'activations'))
    rows.append((name, *sizes, *numbers, mark))
  header = (
    *('update', 'GiB', 'kept', 'seconds', 'bound by'),
    *('MFU %', 'products %', 'best'),
  )
  return '\n'.join([tables.aligned(header, rows), *reasons])
