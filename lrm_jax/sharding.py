"""Which part of every array of a run a device holds.

  parameter_specs(config, mesh)      -> {keys of a leaf: PartitionSpec}
  parameter_shardings(config, mesh)  -> what `huggingface.load` takes
  state_shardings(state, mesh)       -> of a TrainState and its optimizer
  put(tree, shardings)               -> the same tree, on the devices

PARAMETERS names the axes of every parameter, `mesh.RULES` gives those names to
axes of the mesh. A name without a rule is not divided.
"""

import dataclasses
import fnmatch
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lrm_jax import errors
from lrm_jax import mesh as mesh_lib
from lrm_jax.checkpoints import key_maps
from lrm_jax.models import lora
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.packing import PackedBatch
from lrm_jax.structs import TrainState

# Patterns of leaves, the first that fits counts. `layers` and what has no rule
# stays whole: norms and biases are small.
PARAMETERS: dict[str, tuple[str, ...]] = {
  'embedding': ('vocab', 'model'),
  'head': ('model', 'vocab'),
  'position_bias': ('buckets', 'heads'),
  'final_norm/scale': ('width',),
  'layers/attention/[qkv]_norm/scale': ('layers', 'width'),
  'layers/*_norm/scale': ('layers', 'width'),
  'layers/attention/[qkv]/kernel': ('layers', 'model', 'heads'),
  'layers/attention/[qkv]/bias': ('layers', 'heads'),
  'layers/attention/o/kernel': ('layers', 'heads', 'model'),
  'layers/mlp/gate/kernel': ('layers', 'model', 'inner'),
  'layers/mlp/up/kernel': ('layers', 'model', 'inner'),
  'layers/mlp/down/kernel': ('layers', 'inner', 'model'),
  'layers/experts/router/kernel': ('layers', 'model', 'choices'),
  'layers/experts/gate': ('layers', 'experts', 'model', 'inner'),
  'layers/experts/up': ('layers', 'experts', 'model', 'inner'),
  'layers/experts/down': ('layers', 'experts', 'inner', 'model'),
}


# Of rows of tokens, and whatever else has a number for each of them.
ROWS = mesh_lib.spec('rows', 'places')


def parameter_specs(
  config: ModelConfig, mesh: Mesh | AbstractMesh
) -> dict[tuple[str, ...], PartitionSpec]:
  """{keys of a leaf: how the mesh divides it}.

  Raises:
    UserError: an axis of a parameter that its axis of the mesh does not divide,
      or heads that would be cut.
  """
  for name, count in (
    ('n_heads', config.n_heads),
    ('n_kv_heads', config.n_kv_heads),
  ):
    _check_divides(f'model: {name}={count}', count, 'heads', mesh)
  return {
    path: _spec(path, shape, mesh)
    for path, shape in key_maps.leaf_shapes(config).items()
  }


def parameter_shardings(
  config: ModelConfig, mesh: Mesh | None
) -> Params | None:
  """The tree of shardings of the parameters; raises as `parameter_specs`.

  Without a mesh None, which `huggingface.load` and `jax.device_put` take for
  the default device.
  """
  if mesh is None:
    return None
  return key_maps.nest(
    {
      path: NamedSharding(mesh, spec)
      for path, spec in parameter_specs(config, mesh).items()
    }
  )


def state_specs(state: TrainState, mesh: Mesh | AbstractMesh) -> TrainState:
  """How a state is divided; a tree like it, of PartitionSpecs.

  What the optimizer keeps of a parameter is divided as the parameter is, and
  among the devices of the data axis too, where that goes: they would all hold
  the same (ZeRO, Rajbhandari et al. 2019, arXiv 1910.02054, section 5). All
  else that it keeps, such as counts, stays whole.

  Args:
    state: arrays or their shapes; parameters or adapters.
    mesh: divides it.

  Raises:
    UserError: an axis of a parameter that its axis of the mesh does not divide.
  """
  return TrainState(
    step=PartitionSpec(),
    params=tree_specs(state.params, mesh),
    opt_state=tree_specs(state.opt_state, mesh, slots=True),
  )


def tree_specs(
  tree: Any, mesh: Mesh | AbstractMesh, *, slots: bool = False
) -> Any:
  """`_spec` of every leaf whose path ends in the keys of a parameter.

  Others stay whole: `PartitionSpec()`.
  """

  def one(path, leaf):
    keys = tuple(
      str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)
    )
    # An optimizer may put keys of its own before them.
    known = [keys[i:] for i in range(len(keys)) if _names(keys[i:])]
    if not known or not leaf.ndim:
      return PartitionSpec()
    return _spec(known[0], leaf.shape, mesh, slots=slots)

  return jax.tree_util.tree_map_with_path(one, tree)


def constrain(tree: Any, *, slots: bool = False) -> Any:
  """Parameters, or gradients of some, as `tree_specs` divides them.

  For programs that are traced; `slots` as what an optimizer keeps.
  """
  mesh = mesh_lib.current()
  if mesh is None:
    return tree
  return jax.lax.with_sharding_constraint(
    tree, tree_specs(tree, mesh, slots=slots)
  )


def reduce(gradients: Any) -> Any:
  """Gradients of a micro-batch, summed over devices, each with what it keeps.

  For programs that are traced. Left to itself XLA adds up whole gradients in
  the loop over micro-batches and divides their sum behind it, to send less: a
  copy of the largest of them would be on every device.
  """
  if mesh_lib.current() is None:
    return gradients
  return jax.lax.optimization_barrier(constrain(gradients, slots=True))


def batch_specs(packed: PackedBatch) -> PackedBatch:
  """How packed rows are divided, a tree like them."""
  rows = jax.tree.map(
    lambda _: mesh_lib.spec(None, 'rows', 'places'), packed.rows
  )
  whole = jax.tree.map(lambda _: PartitionSpec(), packed)
  return dataclasses.replace(whole, rows=rows)


def put(tree: Any, mesh: Mesh | None, specs: Any) -> Any:
  """Arrays of this host on the devices of all; each has what is its own.

  Args:
    tree: NumPy arrays or numbers, the same in every process.
    mesh: None leaves the tree as it is.
    specs: a tree like it, or one PartitionSpec for all.
  """
  if mesh is None:
    return tree
  if isinstance(specs, PartitionSpec):
    specs = jax.tree.map(lambda _: specs, tree)

  def one(x, spec):
    x = np.asarray(x)
    return jax.make_array_from_callback(
      x.shape, NamedSharding(mesh, spec), lambda index: x[index]
    )

  return jax.tree.map(one, tree, specs)


def shardings(mesh: Mesh, specs: Any) -> Any:
  """The tree of specs as one of shardings."""
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    specs,
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )


def _names(path: tuple[str, ...]) -> tuple[str, ...]:
  """Names of the axes of a parameter, or of an adapter of one; () of others."""
  if not path:
    return ()
  *above, last = path
  if last in (lora.A, lora.B):
    # One side of the kernel, and the rank.
    names = _names(tuple(above))
    if not names:
      return ()
    ends = (names[-2], 'rank') if last == lora.A else ('rank', names[-1])
    return (*names[:-2], *ends)
  leaf = '/'.join(path)
  matches = (p for p in PARAMETERS if fnmatch.fnmatchcase(leaf, p))
  found = next(matches, None)
  return () if found is None else PARAMETERS[found]


def _spec(
  path: tuple[str, ...],
  shape: tuple[int, ...],
  mesh: Mesh | AbstractMesh,
  *,
  slots: bool = False,
) -> PartitionSpec:
  names = _names(path)
  leaf, taken = '/'.join(path), {}
  for size, name in zip(shape, names, strict=True):
    _check_divides(f'{leaf}: {size} {name}', size, name, mesh)
    for axis in mesh_lib.RULES.get(name, ()):
      if axis in taken:
        raise errors.UserError(
          f'{leaf}: {axis} would divide {taken[axis]} and {name}; give one of '
          'them another axis in mesh.RULES'
        )
      taken[axis] = name

  def rule(size: int, name: str) -> str:
    more = f'{name} slots'
    is_there = slots and more in mesh_lib.RULES
    return more if is_there and not size % mesh_lib.ways(more, mesh) else name

  return mesh_lib.spec(*map(rule, shape, names), mesh=mesh)


def _check_divides(
  what: str, size: int, name: str, mesh: Mesh | AbstractMesh
) -> None:
  if name in mesh_lib.RULES and size % mesh_lib.ways(name, mesh):
    axes = ' x '.join(
      f'{axis}={mesh.shape[axis]}'
      for axis in mesh_lib.RULES[name]
      if axis in mesh.shape
    )
    raise errors.UserError(
      f'{what} cannot be divided among {axes} devices; choose a divisor of '
      f'{size}'
    )
