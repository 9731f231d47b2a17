"""Rows of the embedding that no id has are not sampled and not counted.

Models pad their embedding to a round number of rows. What stands in those rows
is whatever training left there.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.errors import UserError
from lrm_jax.models import output_head, transformer
from lrm_jax.sampler import engine
from tests import tiny

VOCAB, USED = 48, 37
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1, tie_embeddings=True)
MASKED = dataclasses.replace(CONFIG, used_vocab=USED)
PARAMS = tiny.params(CONFIG)
IDS = np.random.default_rng(0).integers(8, USED, (4, 6)).astype(np.int32)


def tempting():
  """Parameters that make the padding the likeliest of all."""
  embedding = np.array(PARAMS['embedding'])
  embedding[USED:] = 20 * embedding[8]
  embedding[USED + 1 :: 2] *= -1
  return PARAMS | {'embedding': jnp.asarray(embedding)}


def generate(config, params, ids=IDS, temperature=1.0):
  sampler = engine.Sampler(
    config,
    samples=8,
    slots=12,
    max_prompt_tokens=16,
    max_tokens=24,
    eos_ids=(5,),
    pad_id=5,
    think_close_ids=(9,),
  )
  return sampler.generate(
    params,
    ids,
    np.full(4, 6, np.int32),
    problem_ids=list('abcd'),
    caps=24,
    key=rng.stream(0, 'test'),
    temperature=temperature,
  )


def hidden_of(params):
  at = np.broadcast_to(np.arange(6), IDS.shape)
  return transformer.apply(CONFIG, params, IDS, at, np.ones_like(IDS))[0]


def test_padding_is_never_sampled():
  params = tempting()
  # Without the mask it is most of what comes.
  assert np.mean(generate(CONFIG, params).response_ids >= USED) > 0.5
  found = generate(MASKED, params)
  assert found.response_ids.max() < USED
  assert np.isfinite(found.logp).all()


def test_the_law_is_that_of_the_ids_that_exist():
  params = tempting()
  # Of smaller scores, rounded less.
  hidden = hidden_of(params) / 8
  scores = np.asarray(output_head.logits(CONFIG, params, hidden), np.float64)
  scores = scores[..., :USED]
  law = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
  expected = np.take_along_axis(law, IDS[..., None], axis=-1)[..., 0]
  logp, entropy = output_head.token_logp(MASKED, params, hidden, IDS)
  np.testing.assert_allclose(logp, expected, atol=1e-5)
  np.testing.assert_allclose(
    entropy, -(np.exp(law) * law).sum(axis=-1), atol=1e-5
  )


def test_padding_gets_no_gradient():
  hidden = hidden_of(PARAMS)

  def loss(params):
    logp, entropy = output_head.token_logp(MASKED, params, hidden, IDS)
    return jnp.sum(logp) + jnp.sum(entropy)

  slope = jax.grad(loss)(PARAMS)['embedding']
  assert not np.any(slope[USED:]) and np.isfinite(slope).all()
  assert np.any(slope[:USED])


@pytest.mark.parametrize('temperature', [1e-3, 1.0, 1e6])
def test_any_temperature_leaves_padding_out(temperature):
  found = generate(MASKED, tempting(), temperature=temperature)
  assert found.response_ids.max() < USED
  assert np.isfinite(found.logp).all()
  _, entropy = output_head.token_logp(
    MASKED, PARAMS, hidden_of(PARAMS), IDS, temperature=temperature
  )
  assert np.isfinite(entropy).all() and entropy.max() < np.log(USED) + 1e-3


def test_a_prompt_with_an_id_that_has_no_row_is_refused():
  ids = IDS.copy()
  ids[2, 3] = VOCAB
  with pytest.raises(UserError, match=f'token id {VOCAB}, .*={VOCAB};'):
    generate(MASKED, PARAMS, ids)
