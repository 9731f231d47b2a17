"""The folder of a run: the guard on its config, and its summary.

WORKDIR/config.json    {"verb": ..., "config": {...}}, written at the start
WORKDIR/summary.json   the numbers of the finished run, stable keys
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from lrm_jax import configuration, errors, jsonl

# Keys that may change between two starts of one run.
MUTABLE = ('steps', 'train.steps')


def open_run(
  workdir: str | pathlib.Path,
  config: config_dict.ConfigDict,
  verb: str,
  mutable: Sequence[str] = MUTABLE,
) -> bool:
  """Claims a folder for a run; returns whether it resumes an earlier start.

  A new folder, or one that holds other files but no config.json, gets a
  config.json. In the folder of a run the config must be that run's own; keys
  in `mutable` may differ (a name stands for the key and for the group), and
  the new values are recorded.

  Raises:
    UserError: the path is a file or cannot be written, or the folder belongs
      to another verb or config. Nothing is written then.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / 'config.json'
  if workdir.exists() and not workdir.is_dir():
    raise errors.UserError(
      f"--workdir='{workdir}' is a file; give a new or existing folder"
    )
  record = {'verb': verb, 'config': configuration.to_dict(config)}
  resumed = path.exists()
  if resumed:
    _check_same(read_record(path), record, workdir, mutable)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(
      f"--workdir='{workdir}' cannot be written ({error.strerror}); "
      'give a folder where you may write'
    ) from error
  jsonl.write_json(path, record)
  return resumed


def read_record(path: pathlib.Path) -> dict[str, Any]:
  """The {'verb', 'config'} of a run.

  Raises:
    UserError: the file was not written by `open_run`.
  """
  try:
    record = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError):
    record = None
  if (
    not isinstance(record, dict)
    or record.keys() != {'verb', 'config'}
    or not isinstance(record['config'], dict)
  ):
    raise errors.UserError(
      f"'{path}' was not written by lrm train or lrm sft; "
      'choose another --workdir'
    )
  return record


def write_summary(
  path: str | pathlib.Path, summary: Mapping[str, Any]
) -> pathlib.Path:
  """Writes a summary atomically and returns its path.

  Args:
    path: an existing folder (then its summary.json) or the file itself.
    summary: str keys; numbers, NumPy or JAX scalars, str, None, nested dicts
      and lists. A float that is not finite becomes null, as JSON has no other
      word for it.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'summary.json'
  jsonl.write_json(path, _finite(summary))
  return path


def _check_same(
  old: dict[str, Any],
  new: dict[str, Any],
  workdir: pathlib.Path,
  mutable: Sequence[str],
) -> None:
  """Raises a UserError that names up to three keys that differ."""
  if old['verb'] != new['verb']:
    raise errors.UserError(
      f"--workdir='{workdir}' holds a run of lrm {old['verb']}, not of "
      f'lrm {new["verb"]}; choose another --workdir'
    )
  keys = [
    key
    for key in configuration.differences(old['config'], new['config'])
    if not any(key == m or key.startswith(f'{m}.') for m in mutable)
  ]
  if not keys:
    return
  flat_old = configuration.flatten(old['config'])
  flat_new = configuration.flatten(new['config'])

  def value(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else 'absent'

  shown = ', '.join(
    f'{key} (was {value(flat_old, key)}, now {value(flat_new, key)})'
    for key in keys[:3]
  )
  more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
  raise errors.UserError(
    f"--workdir='{workdir}' holds a run with another config: {shown}{more}; "
    'choose another --workdir, or give the same config to resume'
  )


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
