"""What devices that share a lane of a sampler tell each other.

Each has some heads, a part of the inner widths and a part of the vocabulary:

  total(x)           what all have of a sum, behind `o` and `down`
  lookup(table, ids) rows of a table that is divided by rows
  rows_of_all(x)     some rows of all columns, of all rows of some columns
  own(tree)          the same rows of what all have
  together(tree)     all rows, of some of each

Elsewhere, and where a device has a lane for itself, they do nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lrm_jax.mesh import LANE_AXES
from lrm_jax.structs import Array

AXIS = 'tensor'


def sharing() -> int:
  """How many devices share the lane whose program is traced now."""
  mesh = jax.sharding.get_abstract_mesh()
  is_lane = mesh.axis_names == LANE_AXES and AXIS in mesh.manual_axes
  return mesh.shape[AXIS] if is_lane else 1


def total(x: Array) -> Array:
  """The sum of what each device has."""
  return x if sharing() == 1 else jax.lax.psum(x, AXIS)


def lookup(table: Array, ids: Array) -> Array:
  """`table[ids]`; of the table a device has as many rows as the others."""
  if sharing() == 1:
    return table[ids]
  place = ids - jax.lax.axis_index(AXIS) * len(table)
  is_here = (place >= 0) & (place < len(table))
  found = table[jnp.where(is_here, place, 0)]
  return total(jnp.where(is_here[..., None], found, jnp.zeros_like(found)))


def rows_of_all(x: Array) -> Array:
  """`[W, V / n]` -> `[W / n, V]`, for n devices."""
  if sharing() == 1:
    return x
  return jax.lax.all_to_all(x, AXIS, split_axis=0, concat_axis=1, tiled=True)


def own(tree: Any) -> Any:
  """`[W, ...]` -> `[W / n, ...]`, as `rows_of_all` shares them out."""
  count = sharing()
  if count == 1:
    return tree

  def one(x: Array) -> Array:
    size = len(x) // count
    start = jax.lax.axis_index(AXIS) * size
    return jax.lax.dynamic_slice_in_dim(x, start, size)

  return jax.tree.map(one, tree)


def together(tree: Any) -> Any:
  """`[W / n, ...]` -> `[W, ...]`, the inverse of `own`."""
  if sharing() == 1:
    return tree
  return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree)


def most_of_lanes(x: Array) -> Array:
  """The largest one of all lanes, where several devices share each.

  What they tell each other inside of a loop is then told in all lanes as often,
  and nobody waits for devices that are in another turn.
  """
  return x if sharing() == 1 else jax.lax.pmax(x, LANE_AXES[0])
