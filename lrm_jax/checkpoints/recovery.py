"""Which checkpoint a run goes on from: the newest that is as it was published.

A step is used if its manifest fits its files. What an earlier version wrote
has no manifest; it is used too, and said to be unverified. A step that was
committed but not published (the run was killed in between) counts as never
written.
"""

import json
import sys
from typing import Any, NamedTuple

from lrm_jax import errors, storage
from lrm_jax.checkpoints import manifests

# In the JSON of a checkpoint: what this version says of the checkpoint itself.
OWN = 'checkpoint'
# In the folder of a step that orbax has committed in a bucket.
_COMMITTED = 'commit_success.txt'
_UNFINISHED = '.orbax-checkpoint-tmp'
_DELETED = 'deleted-'
_DAMAGED = 'damaged-'
_UNPUBLISHED = 'unpublished-'


class Found(NamedTuple):
  """What `search` saw, newest first.

  Attributes:
    step: the newest step that can be used; None if none can.
    is_verified: it has a manifest.
    faults: {step: what is wrong} of all newer ones.
  """

  step: int | None
  is_verified: bool
  faults: dict[int, str]


def steps(folder: storage.Path) -> list[int]:
  """All steps that orbax has committed, in order; published or not.

  Raises:
    UserError: it is a file.
  """
  storage.refresh(folder)
  if not _is_folder(folder):
    return []
  return sorted(
    int(path.name)
    for path in folder.iterdir()
    if path.name.isdecimal() and not _is_half_written(path)
  )


def newest(folder: storage.Path) -> int | None:
  """The newest step that was published; not verified, and nothing changes."""
  for step in reversed(steps(folder)):
    path = folder / str(step)
    if (path / manifests.NAME).exists() or _is_of_earlier_version(path):
      return step
  return None


def search(folder: storage.Path) -> Found:
  """Verifies steps, the newest first, until one can be used; changes nothing.

  Args:
    folder: WORKDIR/checkpoints.
  """
  faults: dict[int, str] = {}
  for step in reversed(steps(folder)):
    path = folder / str(step)
    found = fault(path)
    if found is None:
      return Found(step, (path / manifests.NAME).exists(), faults)
    faults[step] = found
  return Found(None, False, faults)


def fault(path: storage.Path) -> str | None:
  """Why a step cannot be used; None if it can."""
  found = manifests.fault(path)
  return None if found and _is_of_earlier_version(path) else found


def recover(folder: storage.Path) -> int | None:
  """The step to go on from; None where nothing was ever published.

  Removes what a killed save or removal has left. Names each step that cannot be
  used on stderr, in one line, and sets it aside, so that it can be saved again:
  a damaged one as `damaged-STEP`, for good, and one that was never published as
  `unpublished-STEP`, until the run has come that far again.

  Raises:
    UserError: all are damaged. They stay as they are.
  """
  _clean(folder)
  found = search(folder)
  if found.step is None and found.faults:
    _check_first_save(folder, found.faults)
  if found.faults:
    # They were made again since: many kills shall not fill the disk.
    _forget(folder, _UNPUBLISHED)
  for step, what in found.faults.items():
    then = 'beginning again' if found.step is None else f'using {found.step}'
    if (folder / str(step) / manifests.NAME).exists():
      kept = _set_aside(folder, step, _DAMAGED)
      _say(
        f'checkpoint {step} is damaged ({what}); {then}; it is kept as '
        f'{kept.name}, which may be deleted'
      )
    else:
      _set_aside(folder, step, _UNPUBLISHED)
      _say(f'checkpoint {step} is unfinished ({what}); {then}')
  if found.step is not None and not found.is_verified:
    _say(
      f'checkpoint {found.step} has no {manifests.NAME}: an earlier version '
      'wrote it; using it unverified'
    )
  return found.step


def choose(workdir: storage.Path, step: int | None) -> int:
  """A step of some run that can be used; changes nothing there.

  Args:
    workdir: of the run.
    step: this one; None: the newest. Newer ones that are damaged are named on
      stderr.

  Raises:
    UserError: there is none, or it is damaged.
  """
  folder = workdir / 'checkpoints'
  known = steps(folder)
  if not known:
    raise errors.UserError(
      f'{workdir}: no checkpoint yet; wait for the first, or use the model '
      'that the run started from'
    )
  if step is None:
    found = search(folder)
    for damaged, what in found.faults.items():
      _say(f'{workdir}: checkpoint {damaged} is not whole ({what})')
    if found.step is None:
      raise errors.UserError(
        f'{workdir}: none of its checkpoints is whole; take another run'
      )
    return found.step
  if step not in known:
    raise errors.UserError(
      f'{workdir}: no checkpoint of step {step}; allowed: '
      f'{", ".join(map(str, known))}'
    )
  if what := fault(folder / str(step)):
    raise errors.UserError(
      f'{workdir}: checkpoint {step} is not whole ({what}); take another step'
    )
  return step


def read_host(path: storage.Path) -> dict[str, Any]:
  """The JSON of a step with what is under `OWN`; {} if it cannot be read.

  It asks no other process, as orbax would.
  """
  try:
    host = json.loads((path / 'host' / 'metadata').read_text('utf-8'))
  except (OSError, ValueError):
    return {}
  return host if isinstance(host, dict) else {}


def remove(folder: storage.Path, step: int) -> None:
  """Removes a step; one that is removed halfway is none."""
  if storage.is_remote(folder):
    for name in (manifests.NAME, _COMMITTED):
      (folder / str(step) / name).unlink(missing_ok=True)
    storage.remove_folder(folder / str(step))
    return
  gone = folder / f'{_DELETED}{step}'
  (folder / str(step)).rename(gone)
  storage.remove_folder(gone)


def forget_unpublished(folder: storage.Path, step: int) -> None:
  """Removes what was never published, up to a step that now is."""
  for path in list(folder.iterdir()):
    if path.name.startswith(_UNPUBLISHED):
      number = path.name.removeprefix(_UNPUBLISHED).partition('.')[0]
      if int(number) <= step:
        storage.remove_folder(path)


def _check_first_save(folder: storage.Path, faults: dict[int, str]) -> None:
  """Raises unless the only step is a first save that was never published."""
  (newest, *others) = faults
  path = folder / str(newest)
  if not others and not (path / manifests.NAME).exists():
    host = read_host(path)
    if OWN in host and host[OWN]['previous'] is None:
      return
  listed = ', '.join(f'{step} ({what})' for step, what in faults.items())
  raise errors.UserError(
    f"'{folder}': no checkpoint there can be used: {listed}; give another "
    '--workdir, or remove that folder to begin again'
  )


def _is_of_earlier_version(path: storage.Path) -> bool:
  if (path / manifests.NAME).exists():
    return False
  host = read_host(path)
  return bool(host) and OWN not in host


def _is_half_written(path: storage.Path) -> bool:
  is_committed = not storage.is_remote(path) or (path / _COMMITTED).exists()
  return not is_committed


def _is_folder(folder: storage.Path) -> bool:
  """Whether it is there."""
  if folder.exists() and not folder.is_dir():
    raise errors.UserError(
      f"'{folder}' is a file; checkpoints are kept in a folder of this name: "
      'remove the file, or choose another --workdir'
    )
  return folder.exists()


def _clean(folder: storage.Path) -> None:
  storage.refresh(folder)
  if not _is_folder(folder):
    return
  for path in list(folder.iterdir()):
    if (
      _UNFINISHED in path.name
      or path.name.startswith(_DELETED)
      or (path.name.isdecimal() and _is_half_written(path))
    ):
      storage.remove_folder(path)


def _forget(folder: storage.Path, prefix: str) -> None:
  for path in list(folder.iterdir()):
    if path.name.startswith(prefix):
      storage.remove_folder(path)


def _set_aside(folder: storage.Path, step: int, prefix: str) -> storage.Path:
  number, target = 1, folder / f'{prefix}{step}'
  while target.exists():
    number += 1
    target = folder / f'{prefix}{step}.{number}'
  storage.move_folder(folder / str(step), target)
  return target


def _say(text: str) -> None:
  print(f'lrm: {text}', file=sys.stderr, flush=True)
