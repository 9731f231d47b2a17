"""Runs on disk: device state and host state, saved together by orbax.

WORKDIR/checkpoints/STEP/
  state          arrays: parameters, optimizer, memory, groups in flight
  host           JSON: data cursor, counters, position of the metrics, config
  manifest.json  size and checksum of every file; see `manifests.py`

Writing is asynchronous. A step counts only when it is published: orbax has
committed it (its folder then gets its name, or in a bucket, which cannot
rename, its mark, commit_success.txt), and after that the manifest was written.
Older steps are removed only then. A start uses the newest step that is as it
was published; see `recovery.py`.

What is not here needs not be: random streams are folded from the seed, a name
and the step, so they have no state; rounds of dynamic sampling end with their
step, which is done again as a whole after a crash.
"""

import contextlib
import copy
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from lrm_jax import distributed, errors, storage
from lrm_jax.checkpoints import manifests, recovery, retention

# Through it orbax prints the tracebacks of its threads.
_ORBAX_LOGGER = logging.getLogger('absl')
_ASYNCIO_LOGGER = logging.getLogger('asyncio')
NO_METRICS: Mapping[str, float | None] = {}


def folder_of(workdir: str | os.PathLike[str]) -> storage.Path:
  """Where the checkpoints of a run are."""
  workdir = storage.as_path(workdir)
  # An address is absolute, and would be put behind the current folder.
  if not storage.is_remote(workdir):
    workdir = workdir.absolute()
  return workdir / 'checkpoints'


class StoredCheckpoints:
  """The checkpoints of some run, to be read.

  Args:
    workdir: of the run.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, create: bool = False):
    self.workdir = storage.as_path(workdir)
    self._folder = folder_of(workdir)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(create=create),
      item_handlers={
        'state': ocp.StandardCheckpointHandler(),
        'host': ocp.JsonCheckpointHandler(),
      },
    )

  def restore_host(self, step: int) -> dict[str, Any]:
    """The host state of a step, as it was saved."""
    found = self._manager.restore(
      step, args=ocp.args.Composite(host=ocp.args.JsonRestore())
    )
    return {k: v for k, v in found.host.items() if k != recovery.OWN}

  def stored(self, step: int) -> Any:
    """The tree of a step's arrays, as dicts; leaves have shape and dtype."""
    return self._manager.item_metadata(step).state.tree

  def restore_state(self, step: int, like: Any) -> Any:
    """The arrays of a step.

    Args:
      step: a committed one.
      like: a pytree of the shapes, dtypes and shardings to restore into.

    Returns:
      The state as it was saved.

    Raises:
      UserError: the checkpoint has other shapes than `like`.
    """
    # Asked first: in a failed restore orbax prints tracebacks of its threads.
    stored, wanted = shapes(self.stored(step)), shapes(like)
    for name in sorted(stored.keys() | wanted.keys()):
      old, new = (
        found[name] if name in found else 'absent' for found in (stored, wanted)
      )
      if old != new:
        raise errors.UserError(
          f'checkpoint {step} does not fit this model: {name} is {old} there '
          f'and {new} here; restore the config it was written with or choose '
          'another --workdir'
        )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    found = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    )
    return found.state

  def close(self) -> None:
    """Ends orbax's threads."""
    self._manager.close()


class RunCheckpoints(StoredCheckpoints):
  """The checkpoints of a run that goes on: it reads them and adds to them.

  A context manager, which is left when everything is published: a process that
  ends before then loses what it was saving. Of two errors the one that ends the
  run is raised, and that of a save is said in one line on stderr.

  Args:
    workdir: of the run. What a killed start has left there is cleaned up.
    keep: the newest steps that stay.
    best: and those with the highest scores.
    best_metric: of the metrics given to `save`: the score.

  Raises:
    UserError: there are checkpoints, and all are damaged.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    keep: int,
    best: int = 0,
    best_metric: str = '',
  ):
    # Once, however often they are added.
    _ORBAX_LOGGER.addFilter(_is_news)
    _ASYNCIO_LOGGER.addFilter(_is_no_write)
    if not _previous_hooks:
      _previous_hooks.append(sys.unraisablehook)
      sys.unraisablehook = _unraisable
    folder = folder_of(workdir)
    self._published = distributed.from_main(lambda: recovery.recover(folder))
    super().__init__(workdir, create=True)
    self._keep, self._best, self._best_metric = keep, best, best_metric
    self._begun = self._published
    self._publisher: threading.Thread | None = None
    self._failure: Exception | None = None
    self._is_closed = False

  def __enter__(self) -> 'RunCheckpoints':
    return self

  def __exit__(self, kind, error, traceback) -> None:
    if error is None:
      self.close()
      return
    try:
      self.close()
    except Exception as failure:  # Whatever it is, the run's own error wins.
      print(f'lrm: {errors.one_line(failure)}', file=sys.stderr, flush=True)

  def latest_step(self) -> int | None:
    """The newest step that is published and whole, None where there is none."""
    return self._published

  def save(
    self,
    step: int,
    state: Any,
    host: dict[str, Any],
    metrics: Mapping[str, float | None] = NO_METRICS,
  ) -> None:
    """Starts writing a step; returns when the arrays have left the device.

    Args:
      step: steps completed.
      state: a pytree of arrays; may be donated as soon as this returns.
      host: JSON-able; may be changed as soon as this returns.
      metrics: of this step; what `best_metric` names is its score.

    Raises:
      UserError: this or an earlier step cannot be written.
    """
    if step == self._begun:
      return
    self.wait()
    self._begun = step
    own = {recovery.OWN: {'previous': self._published}}
    with self._explained(f'checkpoint {step} could not be written to'):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          # A copy: it is read later, in another thread.
          host=ocp.args.JsonSave(copy.deepcopy(host) | own),
        ),
      )
    self._publisher = threading.Thread(
      target=self._publish, args=(step, dict(metrics)), name='publish'
    )
    self._publisher.start()

  def check(self) -> None:
    """Raises what has befallen a save that was going on; does not wait.

    Raises:
      UserError: it names the folder and the cure.
    """
    if self._failure is not None:
      failure, self._failure = self._failure, None
      raise failure

  def wait(self) -> None:
    """Waits until what was saved is published; raises as `check` does."""
    if self._publisher is not None:
      self._publisher.join()
      self._publisher = None
    self.check()

  def close(self) -> None:
    """Waits until everything is published; raises as `check` does.

    Once; later calls do nothing.
    """
    if self._is_closed:
      return
    self._is_closed = True
    self.wait()
    super().close()

  def _publish(self, step: int, metrics: dict[str, float | None]) -> None:
    """Waits for orbax, then writes the manifest and removes old steps."""
    try:
      with self._explained(f'checkpoint {step} could not be written to'):
        self._manager.wait_until_finished()
        if distributed.is_main():
          manifests.write(self._folder / str(step), step, metrics)
      self._published = step
      if distributed.is_main():
        with self._explained('old checkpoints could not be removed from'):
          self._retire()
          recovery.forget_unpublished(self._folder, step)
    except Exception as error:  # Raised again by `check`, in the main thread.
      self._failure = error

  def _retire(self) -> None:
    """Removes the steps that need not stay, the oldest first."""
    steps = recovery.steps(self._folder)
    scores = {}
    for step in steps:
      try:
        found = manifests.read(self._folder / str(step))['metrics']
      except (OSError, ValueError):
        continue  # Of an earlier version, or damaged since: it has no score.
      if self._best_metric in found:
        scores[step] = found[self._best_metric]
    stay = retention.retained(steps, scores, self._keep, self._best)
    for step in steps:
      if step not in stay:
        recovery.remove(self._folder, step)

  @contextlib.contextmanager
  def _explained(self, what: str) -> Iterator[None]:
    """Says in one line why something was not done in the folder."""
    try:
      yield
    except Exception as error:
      cause = error
      if isinstance(error, errors.UserError) and error.__cause__ is not None:
        cause = error.__cause__
      # Bugs stay bugs; TensorStore says everything with a ValueError.
      kinds = (OSError, ValueError, RuntimeError)
      if not storage.is_remote(self._folder) and not isinstance(cause, kinds):
        raise
      left = (
        'no checkpoint is left'
        if self._published is None
        else f'checkpoint {self._published} is the newest whole one'
      )
      raise errors.UserError(
        f"{what} '{self._folder}' ({_reason(cause)}); {left}; make room there, "
        'or see to it that it can be written, and start the same command again'
      ) from error


def _reason(error: Exception) -> str:
  """What the system said; TensorStore has its number at the end of much."""
  number = re.search(r"os_error_code='(\d+)'", str(error))
  if number is not None:
    return os.strerror(int(number[1]))
  if isinstance(error, OSError) and error.strerror is not None:
    return error.strerror
  return ' '.join(f'{type(error).__name__}: {error}'.split())[:300]


def _is_news(record: logging.LogRecord) -> bool:
  """Not what orbax says of errors: `check` raises them, in one line."""
  return record.levelno < logging.ERROR or 'orbax' not in record.pathname


# Who was told of exceptions that nobody can catch.
_previous_hooks: list[Callable[[Any], None]] = []


def _is_no_write(record: logging.LogRecord) -> bool:
  """Not of the other writes of a failed save that nobody waits for any more.

  The first one's error was caught, and `check` raises it.
  """
  return 'orbax/checkpoint' not in record.getMessage()


def _unraisable(found: Any) -> None:
  """Drops what the other writes of a failed save say, each with a traceback.

  They end when the loop that had waited for them is closed. The first one's
  error was caught, and `check` raises it.
  """
  if str(found.exc_value) != 'Event loop is closed':
    _previous_hooks[0](found)


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """{'a/b': shape} of arrays, or of what orbax says about stored ones.

  Orbax tells classes and tuples as dicts and lists, so paths are compared by
  their words and not by their types.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    tree, is_leaf=lambda x: hasattr(x, 'shape')
  )
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
    for path, leaf in leaves
  }
