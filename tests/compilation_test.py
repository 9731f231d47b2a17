"""The count of compiled programs."""

import jax
import numpy as np

from lrm_jax.compilation import CompileWatch


def test_counts_programs_and_not_their_runs():
  double = jax.jit(lambda x: 2 * x)
  watch = CompileWatch()
  assert (watch.count, watch.seconds) == (0, 0.0)
  double(np.ones(3, np.float32))
  assert watch.count == 1
  first = watch.seconds
  assert first > 0
  double(np.zeros(3, np.float32))
  assert (watch.count, watch.seconds) == (1, first)
  double(np.ones(4, np.float32))
  assert watch.count == 2
  assert watch.seconds > first


def test_counts_from_its_own_start():
  double = jax.jit(lambda x: 2 * x)
  before = CompileWatch()
  double(np.ones(3, np.float32))
  after = CompileWatch()
  double(np.ones(5, np.float32))
  assert (before.count, after.count) == (2, 1)
