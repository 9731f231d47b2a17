"""A run that resumes: what later steps left in its folder is taken back.

They are done again, so each step is written once: metrics.jsonl ends exactly
where the checkpoint says that it did, and rollouts/ with the step itself.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence

from lrm_jax import jsonl, storage
from lrm_jax.checkpoints import replacing
from lrm_jax.errors import UserError

# Beside the run's folder itself: where files are written on the way.
FOLDERS = ('rollouts', 'evaluation', 'incidents')


def rewind(
  workdir: storage.Path, step: int, position: Mapping[str, int] | None
) -> None:
  """Cuts metrics.jsonl and removes the rollouts of later steps.

  And what a kill has left of files and models that were being written.

  Args:
    workdir: of the run.
    step: that it goes on from.
    position: `rows` and `bytes` of metrics.jsonl at that step; None: it was
      written by an earlier version, and its rows are counted from step 1.

  Raises:
    UserError: metrics.jsonl is not as the checkpoint left it. Nothing is
      changed then.
  """
  for folder in (workdir, *(workdir / name for name in FOLDERS)):
    jsonl.remove_parts(folder)
  replacing.clean(workdir)
  path = workdir / 'metrics.jsonl'
  content = path.read_bytes() if path.exists() else b''
  if position is None:
    position = _find(content, step)
  end = position['bytes']
  _check(path, content[:end], step, position)
  if len(content) > end:
    _cut(path, content, end)
  for old in _later_rollouts(workdir / 'rollouts', step):
    old.unlink()


def _find(content: bytes, step: int) -> dict[str, int]:
  """Where the row of a step ends; all rows up to it count."""
  rows = content.splitlines(keepends=True)[:step]
  return {'rows': step, 'bytes': sum(map(len, rows))}


def _check(
  path: storage.Path, content: bytes, step: int, position: Mapping[str, int]
) -> None:
  """Raises unless the rows are those of the last steps, once each, in order."""
  rows = position['rows']
  wanted = list(range(step - rows + 1, step + 1))
  lines = content.splitlines()
  found = [_step(line) for line in lines]
  is_whole = content.endswith(b'\n') or not rows
  if found == wanted and is_whole and len(content) == position['bytes']:
    return
  wrong = next(
    (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
    min(len(found), rows),
  )
  what = 'is missing' if wrong >= len(found) else 'is another one'
  if wrong >= rows:
    what, wrong = 'has changed', rows - 1
  raise UserError(
    f"'{path}': the row of step {step - rows + 1 + wrong} {what}, and the "
    f'checkpoint of step {step} goes on after {rows} rows; put the file back '
    'as it was, or start a new run with another --workdir'
  )


def _step(line: bytes) -> int | None:
  try:
    row = json.loads(line)
  except ValueError:
    return None
  return row['step'] if isinstance(row, dict) and 'step' in row else None


def _cut(path: storage.Path, content: bytes, end: int) -> None:
  if storage.is_remote(path):
    with storage.explained(path):
      path.write_bytes(content[:end])
    return
  with path.open('r+b') as file:
    file.truncate(end)
    file.flush()
    os.fsync(file.fileno())


def _later_rollouts(folder: storage.Path, step: int) -> Sequence[storage.Path]:
  if not folder.exists():
    return []
  found = []
  for path in folder.iterdir():
    name = re.fullmatch(r'step_(\d+)\.jsonl\.gz', path.name)
    if name is not None and int(name[1]) > step:
      found.append(path)
  return found
