"""The architecture as data: what it refuses, and what it costs."""

import pytest

from lrm_jax.errors import UserError
from tests.models import tiny


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'n_kv_heads': 3}, ['n_heads=4', 'n_kv_heads=3', 'multiple']),
    ({'head_dim': 5}, ['head_dim=5', 'even']),
    ({'param_dtype': 'f32'}, ["param_dtype='f32'", 'float32', 'bfloat16']),
    ({'compute_dtype': 'int8'}, ["compute_dtype='int8'", 'float16']),
    ({'logits_dtype': ''}, ["logits_dtype=''", 'float32']),
    ({'remat': 'all'}, ["remat='all'", 'none', 'full', 'dots']),
  ],
)
def test_impossible_models_are_refused(changes, words):
  with pytest.raises(UserError) as error:
    tiny.make_config(**changes)
  assert all(word in str(error.value) for word in words)
  assert '\n' not in str(error.value)


def test_flops_by_hand():
  """D=8, L=2, H=2, K=1, head_dim=4, F=10, V=100.

  A layer: q 8x8, k and v 8x4 each, o 8x8, gate, up and down 8x10 each:
  64 + 32 + 32 + 64 + 240 = 432 weights. Two layers and a head of 8x100:
  1664 multiply-adds. At context 5, each layer's 2 heads take a dot product of
  4 with 5 keys and a sum of 5 values of 4: 2 * 2 * 4 * 5 = 80 multiply-adds.
  """
  config = tiny.make_config(
    vocab_size=100, d_model=8, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=10
  )
  assert config.flops_per_token() == 2 * 1664
  assert config.flops_per_token(context=5) == 2 * (1664 + 2 * 80)


def test_flops_do_not_depend_on_tying():
  untied = tiny.make_config(tie_embeddings=False)
  assert untied.flops_per_token(3) == tiny.make_config().flops_per_token(3)
