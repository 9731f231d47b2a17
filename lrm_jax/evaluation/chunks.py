"""An evaluation that goes on where it was stopped, chunk by chunk.

  WORKDIR/chunks/started.json        what is evaluated, and how: the record
  WORKDIR/chunks/NNNNNN.jsonl.gz     rows of whole problems, NNNNNN the place of
                                     the first one
  WORKDIR/summary.json               of an ended evaluation; has the record too

A chunk is written whole or not at all. At the end all are joined, and the
folder of chunks goes. Samples depend on the seed, the problem and their number
alone, so it does not matter what was stopped where.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrm_jax import jsonl, storage
from lrm_jax import workdir as run_folder
from lrm_jax.errors import UserError
from lrm_jax.evaluation import stored

_CHUNKS = 'chunks'
_STARTED = 'started.json'
_RESULTS = ('summary.json', 'rollouts.jsonl.gz', 'pass_rates.jsonl')


def check(
  workdir: storage.Path, record: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Whether an evaluation may have a folder; changes nothing there.

  Args:
    workdir: it may exist or not.
    record: what is evaluated, and how, as JSON has it.

  Returns:
    The summary, where this evaluation has ended; else None.

  Raises:
    UserError: the folder holds another evaluation, or results of something
      else; it names what differs.
  """
  with storage.explained(workdir):
    found = _read(workdir / 'summary.json')
    started = _read(workdir / _CHUNKS / _STARTED)
    there = [name for name in _RESULTS if (workdir / name).exists()]
  old = found if found is not None else started
  if old is None and not there:
    return None
  anew = 'delete the folder to begin anew, or choose another --workdir'
  if old is None or not record.keys() <= old.keys():
    name = there[0] if there else f'{_CHUNKS}/{_STARTED}'
    raise UserError(
      f"--workdir='{workdir}' holds {name} of an earlier version or of "
      f'something else; {anew}'
    )
  changes = run_folder.describe_changes(
    {key: old[key] for key in record}, record, ()
  )
  if changes:
    raise UserError(
      f"--workdir='{workdir}' holds an evaluation with other flags: {changes}; "
      f'give the same flags to go on with it, {anew}'
    )
  return found


def begin(workdir: storage.Path, record: Mapping[str, Any]) -> None:
  """Claims a folder that `check` has found free; clears what a kill left."""
  folder = workdir / _CHUNKS
  storage.make_folder(folder)
  for each in (workdir, folder):
    jsonl.remove_parts(each)
  jsonl.write_json(folder / _STARTED, dict(record))


def count(workdir: storage.Path, ids: Sequence[str], samples: int) -> int:
  """How many of the first problems are done.

  Args:
    workdir: of the evaluation.
    ids: of all problems, in order.
    samples: of each.

  Raises:
    UserError: a chunk is of other problems.
  """
  done = 0
  for path, found in _each(workdir, len(ids), samples):
    expected = [id_ for id_ in ids[done:][: len(found) // samples]]
    wanted = [(id_, sample) for id_ in expected for sample in range(samples)]
    if not found or [(row['id'], row['sample']) for row in found] != wanted:
      raise UserError(
        f"'{path}': not {samples} samples of each problem from '{ids[done]}' "
        'on; delete the file, and they are sampled again'
      )
    done += len(expected)
  return done


def write(
  workdir: storage.Path, first: int, rows: Sequence[stored.Row]
) -> None:
  """Writes the rows of whole problems; `first` is the place of the first."""
  jsonl.write_rows(workdir / _CHUNKS / _name(first), rows)


def rows(
  workdir: storage.Path, problems: int, samples: int
) -> Iterator[stored.Row]:
  """All rows of a whole evaluation, in order, a chunk at a time."""
  for _, found in _each(workdir, problems, samples):
    yield from found


def read_summary(path: storage.Path) -> dict[str, Any]:
  """A summary as a later start will read it: what is not finite is None."""
  return json.loads(path.read_text('utf-8'))


def remove(workdir: storage.Path) -> None:
  """Removes the chunks: their rows are in rollouts.jsonl.gz."""
  with storage.explained(workdir):
    if (workdir / _CHUNKS).exists():
      storage.remove_folder(workdir / _CHUNKS)


def _each(
  workdir: storage.Path, problems: int, samples: int
) -> Iterator[tuple[storage.Path, list[stored.Row]]]:
  """(file, its rows) of the chunks that follow on each other."""
  done = 0
  while done < problems:
    path = workdir / _CHUNKS / _name(done)
    with storage.explained(path):
      if not path.exists():
        return
    found = jsonl.read_rows(path, stored.FIELDS)
    yield path, found
    done += len(found) // samples


def _name(first: int) -> str:
  return f'{first:06d}.jsonl.gz'


def _read(path: storage.Path) -> dict[str, Any] | None:
  """An object in a JSON file; None where there is no file, {} for no object."""
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError, RecursionError):
    return {}
  return value if isinstance(value, dict) else {}
