"""Named random streams: every key is folded in from names, none is split.

A sample is drawn with the key (seed, stream, step, problem, sample, position),
so it does not depend on the batch, slot or order in which it was drawn.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.structs import Array


def stream(seed: int, name: str, step: int | Array = 0) -> Array:
  """The key of a named stream at a step."""
  key = jax.random.fold_in(jax.random.key(seed), name_hash(name))
  return jax.random.fold_in(key, step)


def name_hash(name: str) -> int:
  """A stable 32-bit number for a name (the start of its SHA-256)."""
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'little')


def name_hashes(names: list[str]) -> np.ndarray:
  """`name_hash` of each name, `[N]` uint32."""
  return np.array([name_hash(name) for name in names], np.uint32)


def sample_keys(key: Array, problems: Array, samples: int) -> Array:
  """One key for each (problem, sample).

  Args:
    key: the stream's key.
    problems: `[B]` uint32, `name_hashes` of the problem ids.
    samples: G.

  Returns:
    `[B, G]` keys; fold a position in before drawing.
  """
  fold = jax.random.fold_in
  by_problem = jax.vmap(fold, (None, 0))(key, problems)
  by_sample = jax.vmap(jax.vmap(fold, (None, 0)), (0, None))
  return by_sample(by_problem, jnp.arange(samples))
