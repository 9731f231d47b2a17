"""The architecture as data: what it refuses."""

import pytest

from lrm_jax.errors import UserError
from lrm_jax.models.config import Experts
from lrm_jax.models.rope import Rope
from tests.models import tiny

LONGROPE = (
  ('short_factor', (1.0, 1.0)),
  ('long_factor', (1.0, 2.0)),
  ('original_max_position_embeddings', 32),
)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'n_kv_heads': 3}, ['n_heads=4', 'n_kv_heads=3', 'multiple']),
    ({'head_dim': 5}, ['head_dim=5', 'even']),
    ({'param_dtype': 'f32'}, ["param_dtype='f32'", 'float32', 'bfloat16']),
    ({'compute_dtype': 'int8'}, ["compute_dtype='int8'", 'float16']),
    ({'logits_dtype': ''}, ["logits_dtype=''", 'float32']),
    ({'remat': 'all'}, ["remat='all'", 'none', 'full', 'dots']),
    ({'activation': 'relu'}, ["activation='relu'", 'silu', 'gelu_tanh']),
    ({'positions': 'xpos'}, ["positions='xpos'", 'rope', 'lm_infinite']),
    ({'attention': 'flash'}, ["attention='flash'", 'chunked', 'splash']),
    ({'windows': (4,)}, ['1 entries', 'n_layers=2', 'one for each layer']),
    ({'windows': (4, -1)}, ['windows=(4, -1)', 'negative', '0 for all']),
    (
      {'positions': 'lm_infinite'},
      ['trained_positions=0', "positions='lm_infinite'", 'needs it'],
    ),
    (
      {'trained_positions': 8},
      ['trained_positions=8', "positions='rope'", 'no other scheme'],
    ),
    (
      {'positions': 'lm_infinite', 'trained_positions': 8, 'windows': (0, 4)},
      ['windows=(0, 4)', "'lm_infinite'", 'leave windows empty'],
    ),
    ({'used_vocab': 38}, ['used_vocab=38', 'vocab_size=37']),
    (
      {'experts': Experts(count=4, used=5, width=8)},
      ['experts.used=5', 'experts.count=4'],
    ),
    (
      {'rope': Rope(fraction=0.5)},
      ['fraction=0.5', 'head_dim=6', 'turns 3', 'even'],
    ),
    (
      {'local_rope': Rope('longrope', settings=LONGROPE)},
      ["'longrope'", '2 factors for 3 pairs', 'one for each'],
    ),
    # What the kernels of others cannot do.
    (
      {'attention': 'splash', 'positions': 'alibi'},
      ["'splash'", "positions='alibi'", 'rope or nope', 'chunked'],
    ),
    (
      {'attention': 'dot_product', 'positions': 't5'},
      ["'dot_product'", "positions='t5'", 'reference or chunked'],
    ),
    (
      {'attention': 'dot_product', 'attention_softcap': 50.0},
      ["'dot_product'", 'attention_softcap=50.0', 'only 0', 'splash'],
    ),
    (
      {'attention': 'splash', 'compute_dtype': 'float16'},
      ["'splash'", "compute_dtype='float16'", 'float32 or bfloat16'],
    ),
    (
      {'attention': 'dot_product', 'compute_dtype': 'bfloat16'},
      ["'dot_product'", 'bfloat16', 'head_dim=6', 'multiples of 8'],
    ),
    (
      {
        'attention': 'dot_product',
        'compute_dtype': 'float16',
        'head_dim': 264,
      },
      ['float16', 'head_dim=264', 'up to 256'],
    ),
  ],
)
def test_impossible_models_are_refused(changes, words):
  with pytest.raises(UserError) as error:
    tiny.make_config(**changes)
  assert all(word in str(error.value) for word in words)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes',
  [
    {'attention': 'splash', 'attention_softcap': 50.0, 'windows': (0, 4)},
    {'attention': 'dot_product', 'positions': 'nope', 'windows': (4, 0)},
    {'attention': 'dot_product', 'compute_dtype': 'bfloat16', 'head_dim': 8},
    {'attention': 'chunked', 'positions': 't5', 'attention_softcap': 1.0},
    {'rope': Rope(fraction=0.5), 'head_dim': 8},
  ],
)
def test_what_kernels_can_do_is_taken(changes):
  tiny.make_config(**changes)
