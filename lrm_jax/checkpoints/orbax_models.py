"""Parameters as orbax keeps them: model directories, and those of a run.

  DIR/params/       the parameters, by the names they have in our tree
  DIR/config.json   and the tokenizer's files, as in the Hugging Face layout

Of a run's checkpoint (`state.py`) the optimizer is left where it is.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from lrm_jax import jsonl
from lrm_jax.checkpoints import (
  config_json,
  extras,
  huggingface,
  key_maps,
  placing,
  recovery,
  replacing,
  weights,
)
from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params


class Stored(NamedTuple):
  """Parameters that orbax wrote, not read yet.

  Attributes:
    where: names them in messages.
    tree: shape and dtype of each.
    keys: the way to them from the root of what was saved.
    restore: reads what its argument asks for.
  """

  where: pathlib.Path
  tree: Any
  keys: tuple[str, ...]
  restore: Callable[[Any], Any]

  def dtype(self) -> str:
    """The dtype that holds all of them exactly."""
    (dtype, *others) = {str(leaf.dtype) for _, leaf in self._leaves()}
    return 'float32' if others else dtype

  def load(
    self, config: ModelConfig, sharding: placing.Sharding = None
  ) -> Params:
    """The parameters in `config.param_dtype`, placed as by `placing`.

    Raises:
      UserError: they are not those of the config, or cannot be read.
    """
    huggingface.check_shapes(config, self.tree)
    shardings = placing.resolve(sharding, (path for path, _ in self._leaves()))
    default = jnp.zeros(()).sharding
    like = key_maps.nest(
      {
        path: jax.ShapeDtypeStruct(
          leaf.shape,
          leaf.dtype,
          sharding=default if shardings[path] is None else shardings[path],
        )
        for path, leaf in self._leaves()
      }
    )
    for key in reversed(self.keys):
      like = {key: like}
    with readable(self.where):
      found = self.restore(
        ocp.args.PyTreeRestore(
          like,
          restore_args=ocp.checkpoint_utils.construct_restore_args(like),
          partial_restore=True,
        )
      )
    for key in self.keys:
      found = found[key]
    leaves = dict(key_maps.flatten(found))
    del found
    for path in leaves:
      leaves[path] = _cast('/'.join(path), leaves[path], config.param_dtype)
    return key_maps.nest(leaves)

  def _leaves(self) -> Iterator[tuple[tuple[str, ...], Any]]:
    return key_maps.flatten(self.tree)


def is_model(directory: pathlib.Path) -> bool:
  """Whether a directory holds a model in this format."""
  return (directory / replacing.PARAMS / replacing.MARK).is_file()


def open_model(directory: str | os.PathLike[str]) -> Stored:
  """The parameters of a model directory.

  Raises:
    UserError: they are not there, or damaged.
  """
  path = pathlib.Path(directory).absolute() / replacing.PARAMS
  with readable(path):
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    tree = checkpointer.metadata(path).item_metadata.tree
  return Stored(
    path, tree, (), lambda args: checkpointer.restore(path, args=args)
  )


def open_run(
  workdir: str | os.PathLike[str], step: int | None
) -> tuple[int, Stored]:
  """(step, parameters) of a checkpoint of a run; writes nothing.

  Args:
    workdir: of the run.
    step: whose checkpoint; None: the newest that is whole.

  Raises:
    UserError: there is no such checkpoint, or it is damaged.
  """
  step = recovery.choose(pathlib.Path(workdir), step)
  path = pathlib.Path(workdir).absolute() / 'checkpoints'
  manager = ocp.CheckpointManager(
    path,
    # `read_only` would say so on stderr.
    options=ocp.CheckpointManagerOptions(create=False),
    item_handlers={'state': ocp.PyTreeCheckpointHandler()},
  )
  where = path / str(step)
  with readable(where):
    tree = manager.item_metadata(step).state.tree
    keys = ('train', 'params') if 'train' in tree else ('params',)
    for key in keys:
      tree = tree[key]
  return step, Stored(
    where,
    tree,
    keys,
    lambda args: (
      manager.restore(step, args=ocp.args.Composite(state=args)).state
    ),
  )


def save(
  directory: str | os.PathLike[str],
  config: ModelConfig,
  params: Params,
  beside: extras.Extras = extras.NOTHING,
) -> None:
  """Writes a model directory; other processes see all of it or none.

  As `huggingface.save`, with every parameter in the dtype it has.
  """
  huggingface.check_shapes(config, params)
  (dtype,) = {str(leaf.dtype) for _, leaf in key_maps.flatten(params)}
  fields = config_json.render(config, dtype) | beside.ids
  with replacing.replacing(pathlib.Path(directory)) as part:
    beside.write(part)
    jsonl.write_json(part / 'config.json', fields)
    try:
      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(part / replacing.PARAMS, params)
    except (ValueError, RuntimeError) as error:
      # So it says that a disk is full.
      raise OSError(str(error)[:200]) from error


@contextlib.contextmanager
def readable(path: pathlib.Path) -> Iterator[None]:
  """Turns whatever orbax raises over damaged files into a UserError."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    reason = ' '.join(str(error).split())[:200]
    raise UserError(
      f'{path}: cannot be restored ({type(error).__name__}: {reason}); '
      'write it again, or take another step'
    ) from error


def _cast(name: str, leaf: jax.Array, dtype: str) -> jax.Array:
  if leaf.dtype == dtype:
    return leaf
  # Where the range shrinks, what is too large must not become infinite.
  if dtype == 'float16':
    weights.cast(name, np.asarray(leaf), dtype)
  return leaf.astype(dtype)
