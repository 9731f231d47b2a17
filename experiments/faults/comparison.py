"""Whether two runs came to the same end, bit for bit, but for times."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lrm_jax import jsonl, phases

_RATE = 'model_flops_per_second_per_device'
# Names of what is measured with a clock, or counts what one start of a run has
# compiled; whole ones, so that no other number goes unseen with them.
TIMED = (
  *('seconds', 'productive_seconds', 'sample_seconds', 'update_seconds'),
  *(f'seconds_{name}' for name in phases.NAMES),
  *(f'tokens_per_second_{of}' for of in ('sample', 'update', 'per_device')),
  *(_RATE, f'{_RATE}_sample', 'mfu', 'mfu_sample'),
  *('goodput', 'compilations'),
)
# Bytes of metrics.jsonl, which has those numbers in it; and what `crash.py`
# gives each run another value of, as any two starts of a run may have.
OTHERS = ('bytes', 'checkpoint_every', 'previous')
# Who had a folder last; it stays, and is another process's in every start.
LOCK = '.lock'


class _Absent:
  """In the place of a key that is not there, which null is not."""

  def __repr__(self) -> str:
    return 'absent'


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """What of `other` is not as in `one`; both are folders of ended runs."""
  found = files(one, other) + leftovers(one, other)
  names = [{x.name for x in run.glob('evaluation/*')} for run in (one, other)]
  found += [
    f'evaluation/{name}: only in one of both'
    for name in sorted(names[0] ^ names[1])
  ]
  for name in sorted(names[0] & names[1]):
    if not name.endswith('.json'):
      contents = [(x / 'evaluation' / name).read_bytes() for x in (one, other)]
      if contents[0] != contents[1]:
        found.append(f'evaluation/{name}: other bytes')
      continue
    pair = [
      untimed(json.loads((x / 'evaluation' / name).read_text()))
      for x in (one, other)
    ]
    found += unequal(f'evaluation/{name}', *pair)
  found += unequal('metrics.jsonl', *map(_rows, (one, other)))
  return found + unequal('checkpoint', *map(_checkpoint, (one, other)))


def files(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """Names of files that only one of both has, or with other bytes."""
  found = [
    f'{name}: only in one of both'
    for name in sorted(_names(one) ^ _names(other))
  ]
  for name in sorted(_names(one) & _names(other)):
    if (one / name).read_bytes() != (other / name).read_bytes():
      found.append(f'{name}: other bytes')
  return found


def leftovers(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """What lies among the checkpoints, or in the last one, of one run only.

  Which steps have one is no difference: runs write them at other intervals.
  """
  held = []
  for run in (one, other):
    folder = run / 'checkpoints'
    steps = sorted(int(x.name) for x in folder.iterdir() if x.name.isdecimal())
    last = (folder / str(step) for step in steps[-1:])
    held.append(
      {x.name for x in folder.iterdir() if not x.name.isdecimal()}
      | {f'LAST/{x.name}' for path in last for x in path.iterdir()}
    )
  return [
    f'checkpoints/{name}: only in one of both'
    for name in sorted(held[0] ^ held[1])
  ]


def _names(workdir: pathlib.Path) -> set[str]:
  """Files that have no times in them."""
  return {
    str(path.relative_to(workdir))
    for pattern in ('rollouts/*', 'model/*', 'incidents/*', '.*')
    for path in workdir.glob(pattern)
    if path.name != LOCK
  }


def _rows(workdir: pathlib.Path) -> list[Any]:
  return untimed(jsonl.read_rows(workdir / 'metrics.jsonl'))


def _checkpoint(workdir: pathlib.Path) -> dict[str, Any]:
  """The last one, as names and arrays."""
  folder = workdir / 'checkpoints'
  step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
  state = ocp.StandardCheckpointer().restore(
    (folder / str(step) / 'state').absolute()
  )
  host = json.loads((folder / str(step) / 'host' / 'metadata').read_text())
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  arrays = {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}
  return {'step': step, 'host': untimed(host), 'arrays': arrays}


def untimed(value: Any) -> Any:
  """The value without what may differ."""
  if isinstance(value, dict):
    return {
      key: untimed(item)
      for key, item in value.items()
      if key not in TIMED + OTHERS
    }
  return [untimed(item) for item in value] if isinstance(value, list) else value


def unequal(name: str, one: Any, other: Any) -> list[str]:
  """Paths of leaves that differ; NaN equals itself."""
  if isinstance(one, dict) and isinstance(other, dict):
    both = sorted(one.keys() | other.keys())
    value = lambda mapping, key: mapping[key] if key in mapping else _Absent()
    return [
      line
      for key in both
      for line in unequal(f'{name}/{key}', value(one, key), value(other, key))
    ]
  if (
    isinstance(one, list) and isinstance(other, list) and len(one) == len(other)
  ):
    return [
      line
      for i, pair in enumerate(zip(one, other, strict=True))
      for line in unequal(f'{name}/{i}', *pair)
    ]
  if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
    same = one.dtype == other.dtype and one.tobytes() == other.tobytes()
  else:
    same = repr(one) == repr(other)
  return [] if same else [f'{name}: {str(one)[:60]} and {str(other)[:60]}']
