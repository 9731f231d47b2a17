"""Finding free pages against NumPy."""

import jax
import numpy as np
import pytest

from lrm_jax.sampler import slots

first = jax.jit(slots._first, static_argnums=1)


@pytest.mark.parametrize('size', [1, 5, 127, 128, 129, 500])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 1.0])
def test_the_first_that_are_wanted(size, share):
  random = np.random.default_rng(size)
  for _ in range(5):
    wanted = random.random(size) < share
    for count in (1, 16, 200):
      expected = np.flatnonzero(wanted)[:count]
      found = first(wanted, count)
      np.testing.assert_array_equal(found[: len(expected)], expected)
      # Behind the end, so that a scatter leaves them out.
      assert found.shape == (count,) and (found[len(expected) :] == size).all()
