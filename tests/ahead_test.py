"""Programs that are compiled in a thread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.ahead import Ahead
from lrm_jax.compilation import CompileWatch


def test_what_was_compiled_ahead_is_what_runs():
  function = jax.jit(lambda tree, x: (tree['a'] * x, x + 1), donate_argnums=0)
  program = Ahead(function)
  tree, other = ({'a': jnp.arange(3.0) + n, 'none': None} for n in (0, 1))
  watch = CompileWatch()
  program.start(tree, np.ones(3, np.float32))
  a, b = program(tree, np.full(3, 2, np.float32))
  np.testing.assert_array_equal(a, [0, 2, 4])
  np.testing.assert_array_equal(b, [3, 3, 3])
  program(other, np.ones(3, np.float32))
  assert watch.count == 1
  assert function._cache_size() == 0
  # Donated, as in the function itself.
  assert tree['a'].is_deleted()


def test_other_shapes_are_the_functions_own():
  program = Ahead(jax.jit(lambda x: x + 1))
  program.start(np.ones(3, np.float32))
  np.testing.assert_array_equal(program(np.ones(2, np.float32)), [2, 2])
  np.testing.assert_array_equal(program(np.ones(3, np.int32)), [2, 2, 2])


def test_an_error_of_the_compiler_is_raised_by_the_call():
  def broken(x):
    raise ValueError('not this shape')

  program = Ahead(jax.jit(broken))
  program.start(np.ones(3))
  with pytest.raises(ValueError, match='not this shape'):
    program(np.ones(3))
