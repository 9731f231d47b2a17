"""Truncation, stop texts and thinking budgets in the engine."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import rng
from lrm_jax.models import output_head, transformer
from lrm_jax.sampler import closing, engine, truncation
from lrm_jax.sampler.stops import Stops
from lrm_jax.sampler.truncation_rules import Rules
from tests import tiny

N, WIDTH, TOKENS, SAMPLES, VOCAB = 6, 20, 48, 2, 40
CLOSE, ENDING = (9,), (11, 9, 12)
CONFIG = tiny.config(vocab_size=VOCAB, n_layers=1)
PARAMS = tiny.params(CONFIG)
LENGTH = np.array([3, 20, 7, 1, 12, 9], np.int32)
PROMPTS = np.random.default_rng(1).integers(13, VOCAB, (N, WIDTH), np.int32)
EVERY_TIME = ('top_p', 'typical')
RULES = {
  'top_n_sigma': 1.5,
  'top_h': 0.6,
  'top_h_cumulative': 0.4,
  'min_p': 0.2,
  'top_k': 5,
  'top_p': 0.7,
  'typical': 0.6,
  'epsilon': 0.05,
  'eta': 0.1,
}


OFF = Rules()


def _generate(*, rules=OFF, most=None, numbers=None, slots=16, **options):
  sampler = _sampler(rules, most, slots, tuple(options.items()))
  budgets = options['budgets'] if 'budgets' in options else closing.ENDLESS
  return sampler.generate(
    PARAMS,
    PROMPTS,
    LENGTH,
    problem_ids=[f'p{row}' for row in range(N)],
    caps=TOKENS,
    key=rng.stream(0, 'law'),
    temperature=0.8,
    budgets=budgets,
    rules=numbers,
  )


@functools.cache
def _sampler(rules, most, slots, options):
  options = dict(options)
  options.pop('budgets', None)
  return engine.Sampler(
    CONFIG,
    samples=SAMPLES,
    slots=slots,
    max_prompt_tokens=WIDTH,
    max_tokens=TOKENS,
    eos_ids=(5,),
    pad_id=0,
    think_close_ids=CLOSE,
    rules=rules,
    most=most,
    **options,
  )


@functools.cache
def _forward():
  params = jax.tree.map(jnp.asarray, PARAMS)

  @jax.jit
  def scores(ids):
    at = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    hidden, _ = transformer.apply(CONFIG, params, ids, at, jnp.ones_like(ids))
    return output_head.logits(CONFIG, params, hidden)

  return scores


def _laws(found, rules, most):
  """`Kept` of every token `[N * SAMPLES, TOKENS]`, teacher-forced."""
  rows = np.zeros((N * SAMPLES, WIDTH + TOKENS), np.int32)
  starts = np.repeat(LENGTH, SAMPLES)
  for row, at in enumerate(np.ndindex(N, SAMPLES)):
    rows[row, : starts[row]] = PROMPTS[at[0], : starts[row]]
    rows[row, starts[row] : starts[row] + TOKENS] = found.response_ids[at]
  places = starts[:, None] - 1 + np.arange(TOKENS)
  scores = np.take_along_axis(
    np.asarray(_forward()(rows)), places[..., None], axis=1
  )
  return jax.jit(truncation.truncate, static_argnums=3)(
    scores, 0.8, rules, most
  )


# The rules themselves are in `truncation_test.py`.
@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long)
    for name in RULES
  ],
)
def test_log_probabilities_are_those_of_the_truncated_law(name):
  rules = Rules(**{name: RULES[name]})
  found = _generate(rules=rules, most=32, keep_sets=True)
  assert found.kept_ids.shape == (N, SAMPLES, TOKENS, 32)
  laws = jax.tree.map(
    lambda x: np.asarray(x).reshape(N, SAMPLES, TOKENS, *x.shape[2:]),
    _laws(found, rules, 32),
  )
  inside = np.arange(TOKENS) < found.length[..., None]
  np.testing.assert_allclose(
    found.kept_mass[inside], laws.mass[inside], atol=1e-4
  )
  is_token = laws.ids == found.response_ids[..., None]
  logp = np.where(is_token, laws.logp, 0).sum(-1)
  np.testing.assert_allclose(found.logp[inside], logp[inside], atol=1e-4)
  kept = np.sort(np.where(laws.is_kept, laws.ids, -1))
  mine = np.sort(found.kept_ids)
  # A token within rounding of a bound may fall on either side of it.
  assert (kept[inside] == mine[inside]).all(-1).mean() > 0.99
  assert (laws.is_kept[inside].sum(-1) < 32).sum() > 50


# As `invariance_test.py` does for all of the vocabulary.
@pytest.mark.long
def test_the_number_of_slots_changes_nothing():
  rules = Rules(top_p=0.8, min_p=0.05)
  one, other = (
    _generate(rules=rules, keep_sets=True, slots=slots) for slots in (16, 64)
  )
  for name in ('response_ids', 'logp', 'length', 'kept_mass', 'kept_ids'):
    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_every_request_has_its_own_numbers():
  rules = Rules(top_p=0.8, top_k=6)
  whole = _generate(rules=rules)
  odd = np.arange(N) % 2 == 1
  mixed = _generate(
    rules=rules,
    numbers=Rules(top_p=np.where(odd, 0.8, 1.0), top_k=np.where(odd, 6, 0)),
  )
  np.testing.assert_array_equal(
    mixed.response_ids[odd], whole.response_ids[odd]
  )
  inside = np.arange(TOKENS) < mixed.length[..., None]
  # Nothing is cut off the others, whose mass is 1 but for rounding.
  assert mixed.kept_mass[~odd][inside[~odd]].min() > 0.9999
  assert mixed.kept_mass[odd][inside[odd]].min() < 0.99
  with pytest.raises(ValueError, match='top_k'):
    _generate(rules=rules, numbers=Rules(top_p=0.9))


def test_a_budget_forces_the_end_of_thinking():
  plain = _generate(ending_ids=ENDING)
  assert not plain.forced.any()
  found = _generate(ending_ids=ENDING, budgets=6)
  forced_rows = 0
  for at in np.ndindex(N, SAMPLES):
    ids, length = found.response_ids[at], found.length[at]
    before = plain.response_ids[at][: min(6, plain.length[at])]
    np.testing.assert_array_equal(ids[: len(before)], before)
    is_open = CLOSE[0] not in before and plain.length[at] > 6
    forced_rows += is_open
    where = np.flatnonzero(found.forced[at])
    assert where.tolist() == ([6, 7, 8] if is_open else [])
    if is_open:
      assert ids[6:9].tolist() == list(ENDING)
      assert (found.logp[at][6:9] == 0).all()
      assert found.thinking_length[at] == 7 and found.think_closed[at]
      assert length > 9
  assert forced_rows >= N


def test_a_text_ends_a_response_wherever_it_is_complete():
  plain = _generate()
  decode = lambda ids: ''.join(f'{int(i):02d}' for i in ids)
  # The end of one token and the start of the next.
  text = decode(plain.response_ids[0, 0, :6])[9:11]
  found = _generate(stops=Stops((text,), decode))
  stopped = 0
  for at in np.ndindex(N, SAMPLES):
    whole = plain.response_ids[at][: plain.length[at]]
    ends = [n for n in range(len(whole) + 1) if text in decode(whole[:n])]
    length = ends[0] if ends else len(whole)
    stopped += bool(ends) and length < len(whole)
    assert found.length[at] == length
    np.testing.assert_array_equal(
      found.response_ids[at][:length], whole[:length]
    )
    assert found.truncated[at] == (plain.truncated[at] and not ends)
  assert stopped > 1
