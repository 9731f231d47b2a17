"""Profiles of single steps."""

import jax
import jax.numpy as jnp
import pytest

from lrm_jax import main, phases, tracing
from lrm_jax.errors import UserError


def trace(folder, steps):
  """Runs steps; the bytes of every profile that comes of it."""
  tracer = tracing.Tracer(folder, steps)
  with tracer:
    for step in range(1, 5):
      with tracer.step(step), phases.phase('update'):
        jax.block_until_ready(jnp.ones(step) + step)
  files = sorted((folder / 'profile').rglob('*.xplane.pb'))
  return [path.read_bytes() for path in files]


def test_a_trace_of_some_steps(tmp_path):
  (found,) = trace(tmp_path, range(2, 4))
  assert b'lrm/update' in found and b'lrm/step' in found


def test_a_run_that_ends_before_the_last(tmp_path):
  tracer = tracing.Tracer(tmp_path, range(2, 9))
  with pytest.raises(KeyboardInterrupt), tracer, tracer.step(2):
    raise KeyboardInterrupt
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_nothing_is_traced_without_steps(tmp_path):
  assert not trace(tmp_path, range(0))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('text', 'steps'),
  [(None, range(0)), ('3', range(3, 4)), ('3-5', range(3, 6))],
)
def test_steps_of_the_flag(text, steps):
  assert main._steps(text) == steps


@pytest.mark.parametrize('text', ['', '0', '5-3', 'all', '1,2', '-3'])
def test_what_are_no_steps(text):
  with pytest.raises(UserError, match='--profile='):
    main._steps(text)
