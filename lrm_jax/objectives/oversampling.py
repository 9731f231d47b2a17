"""Over-sampling: how many problems are drawn to fill a batch.

`f(memory, **keywords) -> factor`, a float of at least 1: problems drawn over
problems wanted. It runs on the host; a step draws once and then, if
`train.max_rounds` allows, again.
"""

from lrm_jax.structs import Memory


def no_oversampling(memory: Memory | None) -> float:
  """`factor = 1`: as many as wanted."""
  del memory
  return 1.0
