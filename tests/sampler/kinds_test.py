"""Models of other kinds: the number of slots changes no bit of a sample."""

import jax
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.models.config import Experts
from lrm_jax.sampler import engine
from tests import tiny

pytestmark = pytest.mark.slow

N, SAMPLES, WIDTH, MAX_TOKENS, VOCAB, EOS = 6, 4, 40, 44, 64, 5
KINDS = {
  'qwen3': {'family': 'qwen3', 'qk_norm': True, 'qkv_bias': False},
  'gemma': {'post_norms': True, 'norm_plus_one': True},
  'experts': {'experts': Experts(count=4, used=2, width=24, normalize=True)},
}


def _generate(config, params, slots):
  sampler = engine.Sampler(
    config,
    samples=SAMPLES,
    slots=slots,
    lanes=1,
    max_prompt_tokens=WIDTH,
    max_tokens=MAX_TOKENS,
    eos_ids=(EOS,),
    pad_id=0,
    think_close_ids=(9,),
  )
  random = np.random.default_rng(0)
  return sampler.generate(
    params,
    random.integers(6, VOCAB, (N, WIDTH)).astype(np.int32),
    random.integers(1, WIDTH + 1, N).astype(np.int32),
    problem_ids=[str(row) for row in range(N)],
    caps=np.array([44, 3, 40, 44, 17, 33], np.int32),
    key=rng.stream(0, 'kinds'),
  )


@pytest.mark.parametrize(
  'kind', [pytest.param('qwen3', marks=pytest.mark.long), 'gemma', 'experts']
)
def test_the_number_of_slots(kind):
  config = tiny.config(**{'vocab_size': VOCAB, 'n_layers': 1, **KINDS[kind]})
  params = jax.tree.map(np.copy, tiny.params(config))
  whole = _generate(config, params, 40)
  assert (whole.length > 32).sum() > 3
  for slots in (1, 16):
    found = _generate(config, params, slots)
    np.testing.assert_array_equal(found.response_ids, whole.response_ids)
    np.testing.assert_array_equal(found.logp, whole.logp)
