"""A checksum of parameters: the same on any mesh, another for any bit.

For a leaf of elements x_i with the bits b_i, in the order of its whole shape:

    sum_k = sum_i mix(b_i + k + i * 0x9E3779B9)  mod 2^32,  k = 0, 1

`mix` is a bijection of 32-bit integers (the end of MurmurHash3), so one other
bit is another term and another sum. Sums of integers modulo 2^32 are exact in
any order: how a leaf is divided among devices cannot show. The names, shapes
and sums of all leaves go through SHA-256.
"""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

_GOLDEN = 0x9E3779B9


def of_params(params: Any) -> str:
  """The checksum of a tree of arrays: 64 hexadecimal digits.

  One program reads every leaf once. Every process of a run must call it. It
  does not see by which classes a tree is built.

  Args:
    params: JAX or NumPy arrays of numbers, of any shapes; what is in the memory
      of the host comes to the device leaf by leaf.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  arrays = [leaf for _, leaf in leaves]
  if any(is_off_device(leaf) for leaf in arrays):
    sums = [jax.device_get(_sums([on_device(x)]))[0] for x in arrays]
  else:
    sums = jax.device_get(_sums(arrays)) if arrays else []
  rows = [
    [
      jax.tree_util.keystr(path, simple=True, separator='/'),
      list(leaf.shape),
      str(leaf.dtype),
      pair.tolist(),
    ]
    for (path, leaf), pair in zip(leaves, sums, strict=True)
  ]
  return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def is_off_device(leaf: Any) -> bool:
  """Whether programs cannot read it where it is."""
  if not isinstance(leaf, jax.Array):
    return False
  (some, *_) = leaf.sharding.device_set
  return leaf.sharding.memory_kind not in (None, some.default_memory().kind)


def on_device(leaf: Any) -> Any:
  """The same array where programs can read it."""
  if not is_off_device(leaf):
    return leaf
  return jax.device_put(leaf, leaf.sharding.with_memory_kind('device'))


@jax.jit
def _sums(leaves: list[jax.Array]) -> jax.Array:
  """`[leaves, 2]` uint32: both sums of each."""
  return jnp.stack([pair(leaf) for leaf in leaves])


def pair(leaf: jax.Array) -> jax.Array:
  """Both sums of an array, `[2]` uint32; for programs that are traced."""
  if leaf.dtype == jnp.bool_:
    leaf = leaf.astype(jnp.uint8)
  width = jnp.dtype(f'uint{min(32, 8 * leaf.dtype.itemsize)}')
  # Of 64 bits: two words, along an axis of their own.
  bits = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
  index = jnp.zeros(bits.shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(bits.ndim)):
    place = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    index += place * jnp.uint32(stride % 2**32)
    stride *= bits.shape[axis]
  start = bits + index * jnp.uint32(_GOLDEN)
  return jnp.stack(
    [jnp.sum(_mix(start + jnp.uint32(k)), dtype=jnp.uint32) for k in (0, 1)]
  )


def _mix(x: jax.Array) -> jax.Array:
  """MurmurHash3's last steps, each of which can be undone."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
