"""What the data says of itself."""

import jax
import numpy as np

from tests.objectives import reference

ROLLOUTS = reference.rollouts(
  correct=[[1, 0, 1], [0, 0, 1]], length=[[1, 4, 2], [3, 3, 1]]
)


def test_right_is_the_verdict():
  verdict = [[True, False, True], [False, False, True]]
  for right in (
    ROLLOUTS.right,
    jax.tree.map(jax.numpy.asarray, ROLLOUTS).right,
    jax.jit(lambda rollouts: rollouts.right)(ROLLOUTS),
  ):
    assert right.dtype == bool
    np.testing.assert_array_equal(right, verdict)


def test_mask_counts_the_response():
  mask = ROLLOUTS.mask
  assert mask.dtype == np.float32
  np.testing.assert_array_equal(mask[0], [[1, 0, 0, 0], [1] * 4, [1, 1, 0, 0]])
