"""Named random streams: every key is folded in from names, none is split.

A sample is drawn with the key (seed, stream, step, problem, sample, position),
so it does not depend on the batch, slot or order in which it was drawn. Keys
are those of `jax.random`, but made on the host: no program is compiled for
them, and none has to wait for what the device is at work on.
"""

import hashlib

import jax
import numpy as np

from lrm_jax.structs import Array

# Threefry-2x32 of Random123: rotations of its rounds, and what the words of a
# key are summed up with.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def stream(seed: int, name: str, step: int = 0) -> Array:
  """The key of a named stream at a step."""
  # What `jax.random.key` makes of a seed.
  first = np.array([0, seed & 0xFFFFFFFF], np.uint32)
  return jax.random.wrap_key_data(_fold(_fold(first, name_hash(name)), step))


def fold_in(key: Array, number: int) -> Array:
  """`jax.random.fold_in` of one key."""
  data = np.asarray(jax.random.key_data(key))
  return jax.random.wrap_key_data(_fold(data, number))


def name_hash(name: str) -> int:
  """A stable 32-bit number for a name (the start of its SHA-256)."""
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'little')


def name_hashes(names: list[str]) -> np.ndarray:
  """`name_hash` of each name, `[N]` uint32."""
  return np.array([name_hash(name) for name in names], np.uint32)


def sample_keys(key: Array, problems: Array, samples: int) -> np.ndarray:
  """One key for each (problem, sample).

  Args:
    key: the stream's key.
    problems: `[B]` uint32, `name_hashes` of the problem ids.
    samples: G.

  Returns:
    `[B, G, 2]` uint32, the `jax.random.key_data` of keys; fold a position in
    before drawing.
  """
  by_problem = _fold(np.asarray(jax.random.key_data(key)), problems)
  return _fold(by_problem[:, None], np.arange(samples))


def _fold(key: np.ndarray, number: np.ndarray | int) -> np.ndarray:
  """`[..., 2]`: `jax.random.fold_in` of numbers `[...]`, by broadcasting.

  The number, 0 before it, enciphered with the key (Salmon et al. 2011).
  """
  words = [key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ _PARITY]
  shape = np.broadcast_shapes(key.shape[:-1], np.shape(number))
  # Of one dimension at least: only of scalars does NumPy report overflow.
  left = np.zeros((1, *shape), np.uint32) + words[0]
  right = np.zeros_like(left) + np.asarray(number).astype(np.uint32) + words[1]
  for group in range(5):
    for bits in _ROTATIONS[group % 2]:
      left += right
      right = left ^ (right << np.uint32(bits) | right >> np.uint32(32 - bits))
    left += words[(group + 1) % 3]
    right += words[(group + 2) % 3] + np.full(1, group + 1, np.uint32)
  return np.stack([left[0], right[0]], axis=-1)
