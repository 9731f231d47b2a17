"""What is said of architectures that cannot be, word for word."""

import types

import pytest

from lrm_jax.models import frequencies, lora, rope
from lrm_jax.models.config import Experts
from lrm_jax.models.lora import Lora
from lrm_jax.models.rope import Rope
from lrm_jax.sampler import decode_sharding, engine, settings, truncation_rules
from tests.checkpoints.hf_models import refusal
from tests.models.tiny import make_config
from tests.tokenization import tiny as tokenizers

PROJECTIONS = ', '.join(lora.PROJECTIONS)


def model(**changes):
  return lambda: make_config(**changes)


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      model(head_dim=7),
      'model: head_dim=7 is odd; rotary positions need an even head_dim',
    ),
    (
      model(used_vocab=38),
      'model: used_vocab=38 is not within vocab_size=37; give at most that, or '
      '0 for all',
    ),
    (
      model(experts=Experts(count=2, used=3, width=4)),
      'model: experts.used=3 is not within experts.count=2; give from 1 to '
      'that',
    ),
    (
      model(param_dtype='int8'),
      "model: param_dtype='int8' is not one of float32, bfloat16, float16",
    ),
    (
      model(windows=(1, 2, 3)),
      'model: windows has 3 entries for n_layers=2; give one for each layer, '
      'or none',
    ),
    (
      model(windows=(1, -2)),
      'model: windows=(1, -2) has a negative one; give tokens, 0 for all '
      'before a query',
    ),
    (
      lambda: Rope('spiral'),
      f"rope: kind='spiral' is not one of {', '.join(rope.KINDS)}",
    ),
    (
      lambda: Rope(theta=float('nan')),
      'rope: theta=nan must be a positive number',
    ),
    (
      lambda: Rope(fraction=1.5),
      'rope: fraction=1.5 must be above 0 and at most 1',
    ),
    (
      lambda: rope.frequencies(Rope(fraction=0.5), 6, 8),
      'rope: fraction=0.5 of head_dim=6 turns 3, which must be even and above '
      '0; change the fraction',
    ),
    (
      lambda: Rope('linear', settings=(('factor', 0),)),
      "rope 'linear': factor=0 must be a positive number",
    ),
    (
      lambda: frequencies.proportional(8, 1e4, 8, share=2.0),
      "rope 'proportional': share=2.0 must be at most 1",
    ),
    (
      lambda: frequencies.ntk(2, 1e4, 8, factor=2.0),
      "rope 'ntk' and 'dynamic': 2 turn, a single pair; they need 4 or more",
    ),
    (
      lambda: rope.frequencies(LLAMA3, 8, 8),
      "rope 'llama3': low_freq_factor=4.0 must be below high_freq_factor=4.0; "
      'raise that',
    ),
    (
      lambda: Lora(rank=0, alpha=1.0),
      'lora.rank=0 must be at least 1; 0 in a config trains all parameters '
      'instead',
    ),
    (
      lambda: Lora(rank=1, alpha=float('inf')),
      'lora.alpha=inf must be positive and finite; twice the rank is usual',
    ),
    (
      lambda: Lora(rank=1, alpha=1.0, targets=('wings',)),
      f"lora.targets=('wings',) has 'wings'; give some of {PROJECTIONS}",
    ),
    (
      lambda: Lora(rank=1, alpha=1.0, targets=()),
      f'lora.targets=() is empty; give some of {PROJECTIONS}',
    ),
  ],
)
def test_models(call, text):
  assert refusal(call) == text


LLAMA3 = Rope(
  'llama3',
  settings=(
    ('factor', 2.0),
    ('high_freq_factor', 4.0),
    ('low_freq_factor', 4.0),
    ('original_max_position_embeddings', 8),
  ),
)


# The sampler.


def device(process):
  return types.SimpleNamespace(process_index=process)


def parse(numbers, most=None):
  return lambda: truncation_rules.parse(numbers, most, 'eval')


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      parse({'luck': 1}),
      'eval.luck is not a truncation rule; known are '
      f'{", ".join(truncation_rules._LIMITS)}',
    ),
    (
      parse({'top_p': 0.0}),
      'eval.top_p=0.0 must be above 0 and at most 1 (1: off)',
    ),
    (
      parse({'top_k': 9}, 8),
      'eval.top_k=9 is more than the most=8 ids that are ever kept; lower the '
      'one or raise the other',
    ),
    (
      lambda: decode_sharding.lanes_of([device(0)] * 3, 2),
      'sampler.tensor=2 does not divide 3 devices; choose a divisor of 3',
    ),
    (
      lambda: decode_sharding.lanes_of([device(0), device(1)], 2),
      'sampler.tensor=2 devices would share a lane of two processes; choose a '
      'divisor of the number of devices of a process',
    ),
    (
      lambda: engine._mesh_of_lanes(make_config(), None, 2),
      'sampler.tensor=2 devices cannot share a lane where there is only one; '
      'set it to 1',
    ),
  ],
)
def test_samplers(call, text):
  assert refusal(call) == text


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return tokenizers.base_of(tmp_path_factory.mktemp('symbols'))


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    (
      {'truncation': {'most': 0.5}},
      'eval.truncation.most=0.5 must be a whole number of at least 1, or 0 for '
      'all ids',
    ),
    (
      {'truncation': {'most': 5}},
      'eval.truncation.most=5 does nothing without a rule; give top_k, or '
      'leave it at 0',
    ),
    ({'stop': ('',)}, 'eval.stop: a text is empty; each must have a letter'),
    (
      {'thinking_budget': -1},
      'eval.thinking_budget=-1 must not be negative (0: none)',
    ),
    (
      {'thinking_budget': 5, 'thinking_end': 'stop'},
      "eval.thinking_budget=5: thinking_end='stop' does not have the tokens of "
      "'</think>' in it, so thinking would not end; put line breaks around the "
      'tag',
    ),
  ],
)
def test_settings_of_a_sampler(tokenizer, changes, text):
  stated = {'truncation': {}, 'stop': (), 'thinking_budget': 0}
  stated |= {'thinking_end': '</think>'} | changes
  call = lambda: settings.options(tokenizer, 'eval', **stated)
  assert refusal(call) == text


def test_a_vocabulary_that_cannot_end_thinking(tmp_path):
  tokenizer = tokenizers.base_of(tmp_path, plain=())
  assert refusal(
    settings.options,
    tokenizer,
    'eval',
    truncation={},
    stop=(),
    thinking_budget=5,
    thinking_end='</think>',
  ) == (
    "eval.thinking_budget=5: '</think>' is no token of this vocabulary and may "
    'merge with what follows, so its end is not seen in time; set the budget '
    'to 0 and cap the response'
  )
