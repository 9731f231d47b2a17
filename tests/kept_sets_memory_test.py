"""What kept sets take, and that nothing is compiled twice for them."""

import jax

from lrm_jax import configuration, updating
from lrm_jax.planning import compiling
from tests import train_test
from tests.kept_sets_test import built, grader, numbers_of, sample  # noqa: F401


def batch_bytes(**changes) -> int:
  config = configuration.load(
    train_test.CONFIG, train_test.overrides(**changes)
  )
  run = compiling.describe(config, jax.devices()[:1])
  shapes = jax.tree.leaves(compiling.update(run).inputs['batch'])
  return sum(x.size * x.dtype.itemsize for x in shapes)


def test_a_plan_counts_four_bytes_an_id(monkeypatch):
  """Of every place of a mini-batch: 4 problems, 4 samples, 32 tokens."""
  monkeypatch.setattr(compiling, '_compile', lambda lowered: None)
  most = {'train__truncation__top_p': 0.8, 'train__truncation__most': 20}
  assert batch_bytes(**most) - batch_bytes() == 4 * 20 * (4 * 4 * 32)


def test_the_update_is_compiled_ahead(built, monkeypatch):  # noqa: F811
  """For the shapes that it is called with: the function itself is not."""
  updating.compile_update(built)
  update = built.programs.update
  for compiled in update._compiled.values():
    compiled.result()
  monkeypatch.setattr(update, '_function', None)
  assert numbers_of(built, sample(built, top_p=0.8))['trained_tokens'] > 0
