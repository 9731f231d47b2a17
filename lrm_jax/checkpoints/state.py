"""Runs on disk: device state and host state, saved together by orbax.

WORKDIR/checkpoints/STEP/ holds `state` (arrays: parameters, optimizer,
memory) and `host` (JSON: data cursor, counters). Writing is asynchronous and
a step appears under its name only when it is complete.
"""

import copy
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from lrm_jax import errors


class RunCheckpoints:
  """The checkpoints of one run, the newest `keep` of them."""

  def __init__(self, workdir: str | pathlib.Path, keep: int):
    self._manager = ocp.CheckpointManager(
      pathlib.Path(workdir).absolute() / 'checkpoints',
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      item_handlers={
        'state': ocp.StandardCheckpointHandler(),
        'host': ocp.JsonCheckpointHandler(),
      },
    )

  def latest_step(self) -> int | None:
    """The newest complete step, None where there is none."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
    """Starts writing a step; returns when the arrays have left the device.

    Args:
      step: steps completed.
      state: a pytree of arrays; may be donated as soon as this returns.
      host: JSON-able; may be changed as soon as this returns.
    """
    if step == self._manager.latest_step():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        # A copy: it is read later, in another thread.
        host=ocp.args.JsonSave(copy.deepcopy(host)),
      ),
    )

  def restore_host(self, step: int) -> dict[str, Any]:
    """The host state of a step from `latest_step`, as it was saved."""
    found = self._manager.restore(
      step, args=ocp.args.Composite(host=ocp.args.JsonRestore())
    )
    return found.host

  def restore_state(self, step: int, like: Any) -> Any:
    """The arrays of a step.

    Args:
      step: from `latest_step`.
      like: a pytree of the shapes, dtypes and shardings to restore into.

    Returns:
      The state as it was saved.

    Raises:
      UserError: the checkpoint has other shapes than `like`.
    """
    # Asked first: in a failed restore orbax prints tracebacks of its threads.
    stored = _shapes(self._manager.item_metadata(step).state.tree)
    wanted = _shapes(like)
    for name in sorted(stored.keys() | wanted.keys()):
      old, new = (
        shapes[name] if name in shapes else 'absent'
        for shapes in (stored, wanted)
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
    """Waits until everything is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
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
