"""The key/value cache: pages of PAGE tokens, shared by those who read them.

A layer has two pools of pages. Those of prompts are read by all samples of a
group, those of responses by one. What is sampled in the running round lies in
`Recent`, one block per slot, and moves to pages when the round is over: all
slots of a round are equally far into it, so that a step writes one slice and
no page.

A pool is a tuple of segments, each as large as all before it together. A step
reads the first few, as many as are in use, whole and in place: gathering pages
would copy them for every token. Keys are stored with their tokens last, since
a product with a query then runs along the tokens; on a CPU that is ten times
faster than the other way round.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array

# Tokens of a page.
PAGE = 32
# Stored instead of the model's own dtype.
DTYPES = ('compute', 'bfloat16', 'int8')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pages:
  """Pages of one layer.

  Attributes:
    k: `[n, K, head_dim, PAGE]`, placed keys.
    v: `[n, K, PAGE, head_dim]`.
    k_scale: `[n, K, PAGE]` float32, what int8 is multiplied by; None for
      floats.
    v_scale: likewise.
  """

  k: Array
  v: Array
  k_scale: Array | None
  v_scale: Array | None

  def read(self, dtype) -> tuple[Array, Array]:
    """Keys `[n, K, head_dim, PAGE]`, values `[n, K, PAGE, head_dim]`."""
    if self.k_scale is None:
      return self.k.astype(dtype), self.v.astype(dtype)
    k = self.k.astype(jnp.float32) * self.k_scale[:, :, None]
    v = self.v.astype(jnp.float32) * self.v_scale[..., None]
    return k.astype(dtype), v.astype(dtype)

  def write(self, page: Array, block: Array, k: Array, v: Array) -> 'Pages':
    """Puts tokens of a part of a page in their place.

    Args:
      page: `[W]` which one; those that do not exist are left out.
      block: `[W]` which part of it, counted in parts of `t` tokens.
      k: `[W, K, head_dim, t]`.
      v: `[W, K, t, head_dim]`.
    """
    page = jnp.where(page < 0, len(self.k), page)  # Negative ones would wrap.

    def put(pool: Array, axis: int, values: Array) -> Array:
      size = values.shape[axis]
      cut = (*pool.shape[:axis], PAGE // size, size, *pool.shape[axis + 1 :])
      index = (page, *[slice(None)] * (axis - 1), block)
      return (
        pool.reshape(cut).at[index].set(values, mode='drop').reshape(pool.shape)
      )

    if self.k_scale is None:
      return dataclasses.replace(
        self,
        k=put(self.k, 3, k.astype(self.k.dtype)),
        v=put(self.v, 2, v.astype(self.v.dtype)),
      )
    k, k_scale = quantize(k, axis=2)
    v, v_scale = quantize(v, axis=3)
    return Pages(
      k=put(self.k, 3, k),
      v=put(self.v, 2, v),
      k_scale=put(self.k_scale, 2, k_scale),
      v_scale=put(self.v_scale, 2, v_scale),
    )


Pool = tuple[Pages, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recent:
  """Tokens of one layer since the round began.

  Attributes:
    k: `[W, K, head_dim, t]`, placed keys.
    v: `[W, K, t, head_dim]`.
  """

  k: Array
  v: Array

  def write(self, k: Array, v: Array, step: Array) -> 'Recent':
    """Stores `k`, `v` `[W, K, head_dim]` at the round's step."""
    put = jax.lax.dynamic_update_slice
    return Recent(
      k=put(self.k, k[..., None], (0, 0, 0, step)),
      v=put(self.v, v[:, :, None], (0, 0, step, 0)),
    )


def quantize(x: Array, axis: int) -> tuple[Array, Array]:
  """Int8 and the float32 scale of each vector along `axis`: max |x| / 127."""
  x = x.astype(jnp.float32)
  scale = jnp.max(jnp.abs(x), axis=axis, keepdims=True) / 127
  # A vector of zeros stays one.
  whole = jnp.round(x / jnp.where(scale > 0, scale, 1.0))
  return whole.astype(jnp.int8), jnp.squeeze(scale, axis)


def segment_sizes(
  pages: int, block: int = 0, smallest: int = 32
) -> tuple[int, ...]:
  """`pages` cut so that every segment but the first is half of what there is.

  All are multiples of 16: products of fewer pages add up in another order on
  a CPU, so samples would depend on where their pages are.

  Args:
    pages: at least so many.
    block: pages that are read at a time. One segment of whole blocks then: a
      part of it is read in place, but on a CPU, which would copy it first.
    smallest: pages of the first segment.
  """
  if block and pages:
    return (-(-pages // block) * block,)
  sizes, total = [], 0
  while total < pages:
    size = min(max(smallest, total // 32 * 16), -(-(pages - total) // 16) * 16)
    sizes.append(size)
    total += size
  return tuple(sizes)


def read_sizes(pages: int, block: int) -> tuple[int, ...]:
  """What is read at a time: segments, or blocks of the only one."""
  sizes = segment_sizes(pages, block)
  return (block,) * (sum(sizes) // block) if block else sizes


def empty_pool(
  config: ModelConfig, pages: int, dtype: str, block: int = 0
) -> Pool:
  """A layer's pool of at least `pages` pages, zero; see `segment_sizes`."""
  if dtype == 'int8':
    stored = jnp.int8
  else:
    stored = config.compute_dtype if dtype == 'compute' else jnp.bfloat16
  heads, width = config.n_kv_heads, config.head_dim

  def segment(n: int) -> Pages:
    scale = lambda: None
    if dtype == 'int8':
      scale = lambda: jnp.zeros((n, heads, PAGE), jnp.float32)
    return Pages(
      k=jnp.zeros((n, heads, width, PAGE), stored),
      v=jnp.zeros((n, heads, PAGE, width), stored),
      k_scale=scale(),
      v_scale=scale(),
    )

  return tuple(segment(n) for n in segment_sizes(pages, block))


def page_bytes(config: ModelConfig, dtype: str) -> int:
  """Memory of a page, all layers together."""
  pool = jax.eval_shape(lambda: empty_pool(config, 1, dtype))
  leaves = jax.tree.leaves(pool[0])
  each = (x.size * x.dtype.itemsize // len(x) for x in leaves)
  return config.n_layers * sum(each)


def empty_recent(config: ModelConfig, slots: int, tokens: int) -> Recent:
  """A layer's block for a round of `tokens`, zero."""
  heads, width = config.n_kv_heads, config.head_dim
  return Recent(
    k=jnp.zeros((slots, heads, width, tokens), config.compute_dtype),
    v=jnp.zeros((slots, heads, tokens, width), config.compute_dtype),
  )


def write_pool(
  pool: Pool, page: Array, block: Array, k: Array, v: Array
) -> Pool:
  """`Pages.write` for numbers that count through all segments."""
  start, segments = 0, []
  for pages in pool:
    segments.append(pages.write(page - start, block, k, v))
    start += len(pages.k)
  return tuple(segments)


def move_pages(pool: Pool, source: Array, target: Array) -> Pool:
  """Copies pages `source` to `target`, `[m]` int32 numbers of the whole pool.

  Those whose target does not exist stay where they are.
  """
  starts = [sum(len(p.k) for p in pool[:i]) for i in range(len(pool))]

  def move(*leaves: Array) -> tuple[Array, ...]:
    found = leaves[0][jnp.minimum(source, len(leaves[0]) - 1)]
    for start, leaf in zip(starts[1:], leaves[1:], strict=True):
      here = leaf[jnp.clip(source - start, 0, len(leaf) - 1)]
      is_here = (source >= start).reshape(-1, *[1] * (leaf.ndim - 1))
      found = jnp.where(is_here, here, found)
    moved = []
    for start, leaf in zip(starts, leaves, strict=True):
      # Negative ones would wrap.
      place = jnp.where(target < start, len(leaf), target - start)
      moved.append(leaf.at[place].set(found, mode='drop'))
    return tuple(moved)

  moved = [
    move(*leaves) for leaves in zip(*map(jax.tree.leaves, pool), strict=True)
  ]
  structure = jax.tree.structure(pool[0])
  return tuple(
    jax.tree.unflatten(structure, leaves) for leaves in zip(*moved, strict=True)
  )
