"""The folder of a run: the guard on its config, and its summary.

WORKDIR/config.json    {"verb": ..., "config": {...}}, written at the start;
                       a fork of a run has "forked_from" too, see forking.py
WORKDIR/summary.json   the numbers of the finished run, stable keys

WORKDIR/start.json is of `goodput.py`, WORKDIR/.lock of `locking.py`.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from lrm_jax import configuration, errors, jsonl, storage

# Keys that may change between two starts of one run.
MUTABLE = ('steps', 'train.steps')
# Keys that a refusal lists; of more it says how many.
MOST_SHOWN = 20


def open_run(
  workdir: str | os.PathLike[str],
  config: config_dict.ConfigDict,
  verb: str,
  mutable: Sequence[str] = MUTABLE,
  forked_from: dict[str, Any] | None = None,
) -> bool:
  """Claims a folder for a run; returns whether it resumes an earlier start.

  A new folder, or one that holds other files but no config.json, gets a
  config.json. In the folder of a run the config must be that run's own; keys
  in `mutable` may differ (a name stands for the key and for the group), and
  the new values are recorded.

  Args:
    workdir: here or in a bucket.
    config: of this start.
    verb: `train` or `sft`.
    mutable: see above.
    forked_from: recorded in a new folder; the folder of a run keeps its own.

  Raises:
    UserError: the path is a file or cannot be written, or the folder belongs
      to another verb or config. Nothing is written then.
  """
  workdir = storage.as_path(workdir)
  old = check_run(workdir, config, verb, mutable)
  record = {'verb': verb, 'config': configuration.to_dict(config)}
  if old is not None and 'forked_from' in old:
    forked_from = old['forked_from']
  if forked_from is not None:
    record['forked_from'] = forked_from
  try:
    storage.make_folder(workdir)
  except OSError as error:
    cure = errors.cure(error, 'give a folder where you may write')
    raise errors.UserError(
      f"--workdir='{workdir}' cannot be written ({error.strerror}); {cure}"
    ) from error
  jsonl.write_json(workdir / 'config.json', record)
  return old is not None


def check_run(
  workdir: storage.Path,
  config: config_dict.ConfigDict,
  verb: str,
  mutable: Sequence[str] = MUTABLE,
) -> dict[str, Any] | None:
  """Whether a run may have a folder; changes nothing there.

  Args:
    workdir: see `open_run`, which asks this too.
    config: likewise.
    verb: likewise.
    mutable: likewise.

  Returns:
    The record of the run that is there; None where there is none.

  Raises:
    UserError: it is a file, or of another verb or config.
  """
  path = workdir / 'config.json'
  with storage.explained(workdir):
    if workdir.exists() and not workdir.is_dir():
      raise errors.UserError(
        f"--workdir='{workdir}' is a file; give a new or existing folder"
      )
    if not path.exists():
      return None
  old = read_record(path)
  record = {'verb': verb, 'config': configuration.to_dict(config)}
  _check_same(old, record, workdir, mutable)
  return old


def read_record(
  path: storage.Path, cure: str = 'choose another --workdir'
) -> dict[str, Any]:
  """The {'verb', 'config'} of a run, and 'forked_from' where it is a fork.

  Args:
    path: its config.json.
    cure: what to do where it is none.

  Raises:
    UserError: the file was not written by `open_run`.
  """
  try:
    record = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError, RecursionError):
    record = None
  if not is_record(record):
    raise errors.UserError(
      f"'{path}' was not written by lrm train or lrm sft; {cure}"
    )
  return record


def is_record(value: Any) -> bool:
  """Whether JSON is what `open_run` writes."""
  return (
    isinstance(value, dict)
    and value.keys() - {'forked_from'} == {'verb', 'config'}
    and isinstance(value['config'], dict)
  )


def write_summary(
  path: str | os.PathLike[str], summary: Mapping[str, Any]
) -> storage.Path:
  """Writes a summary atomically and returns its path.

  Args:
    path: an existing folder (then its summary.json) or the file itself, here
      or in a bucket.
    summary: str keys; numbers, NumPy or JAX scalars, str, None, nested dicts
      and lists. A float that is not finite becomes null, as JSON has no other
      word for it.
  """
  path = storage.as_path(path)
  if path.is_dir():
    path = path / 'summary.json'
  jsonl.write_json(path, _finite(summary))
  return path


def _check_same(
  old: dict[str, Any],
  new: dict[str, Any],
  workdir: storage.Path,
  mutable: Sequence[str],
) -> None:
  """Raises a UserError that names the keys that differ."""
  if old['verb'] != new['verb']:
    raise errors.UserError(
      f"--workdir='{workdir}' holds a run of lrm {old['verb']}, not of "
      f'lrm {new["verb"]}; choose another --workdir'
    )
  shown = describe_changes(old['config'], new['config'], mutable)
  if not shown:
    return
  fork = f', or --fork-from={workdir}' if new['verb'] == 'train' else ''
  raise errors.UserError(
    f"--workdir='{workdir}' holds a run with another config: {shown}; choose "
    f'another --workdir{fork}, or give the same config to resume'
  )


def describe_changes(
  old: Mapping[str, Any], new: Mapping[str, Any], mutable: Sequence[str]
) -> str:
  """Names the keys whose values differ, but for `mutable` ones.

  Args:
    old: a config as JSON has it.
    new: likewise.
    mutable: names of keys and of groups.

  Returns:
    'a.b (was 1, now 2), ... and 2 more', after `MOST_SHOWN` of them; '' where
    there is no difference.
  """
  keys = [
    key
    for key in configuration.differences(old, new)
    if not any(key == m or key.startswith(f'{m}.') for m in mutable)
  ]
  flat_old, flat_new = configuration.flatten(old), configuration.flatten(new)

  def value(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else 'absent'

  shown = ', '.join(
    f'{key} (was {value(flat_old, key)}, now {value(flat_new, key)})'
    for key in keys[:MOST_SHOWN]
  )
  more = len(keys) - MOST_SHOWN
  return shown + (f' and {more} more' if more > 0 else '')


def _finite(value: Any) -> Any:
  """Returns JSON types; scalars of array libraries become Python numbers."""
  if isinstance(value, Mapping):
    return {str(key): _finite(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(item) for item in value]
  if hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
