"""Kept sets against the logits processors of transformers, which are equal."""

import jax
import numpy as np
import pytest

from lrm_jax.sampler import truncation
from lrm_jax.sampler.truncation_rules import Rules

pytestmark = pytest.mark.parity

WHY = 'compares with the logits processors of transformers'
ROWS, VOCAB = 1000, 400
IS_UNTIED = np.arange(ROWS) % 3 > 0

# Names of theirs, in our order: theirs has min-p after top-p.
WARPERS = {
  'top_h_cumulative': 'TopHLogitsWarper',
  'min_p': 'MinPLogitsWarper',
  'top_k': 'TopKLogitsWarper',
  'top_p': 'TopPLogitsWarper',
  'typical': 'TypicalLogitsWarper',
  'epsilon': 'EpsilonLogitsWarper',
  'eta': 'EtaLogitsWarper',
}

truncate = jax.jit(truncation.truncate, static_argnames='most')


def laws():
  """From nearly flat to nearly certain, a third of the rows with ties."""
  random = np.random.default_rng(0)
  width = random.uniform(0.5, 6, (ROWS, 1))
  scores = random.normal(size=(ROWS, VOCAB)) * width
  scores[~IS_UNTIED] = np.round(scores[~IS_UNTIED], 1)
  return scores.astype(np.float32)


def their_scores(scores, temperature, settings, kind):
  """-inf where theirs drops the id."""
  torch = pytest.importorskip('torch', reason=WHY)
  pytest.importorskip('transformers', reason=WHY)
  from transformers.generation import logits_process

  out = torch.tensor(scores, dtype=getattr(torch, kind))
  # The very numbers that ours have.
  temperature = float(np.float32(temperature))
  out = logits_process.TemperatureLogitsWarper(temperature)(None, out)
  for name, warper in WARPERS.items():
    if name in settings:
      number = settings[name]
      number = number if name == 'top_k' else float(np.float32(number))
      out = getattr(logits_process, warper)(number)(None, out)
  return out.log_softmax(dim=-1).numpy()


def our_scores(scores, temperature, settings):
  # The bound of theirs, which cannot be set.
  most = 100 if 'top_h_cumulative' in settings else None
  kept = truncate(scores, np.float32(temperature), Rules(**settings), most=most)
  out = np.empty_like(scores)
  out.fill(-np.inf)
  np.put_along_axis(out, np.asarray(kept.ids), np.asarray(kept.logp), axis=-1)
  return out


CASES = [
  {'top_h_cumulative': 0.4},
  {'top_h_cumulative': 0.9},
  {'top_k': 1},
  {'top_k': 50},
  {'top_p': 0.5},
  {'top_p': 0.95},
  {'min_p': 0.1},
  {'min_p': 0.005},
  {'typical': 0.2},
  {'typical': 0.9},
  {'epsilon': 6e-4},
  {'epsilon': 0.05},
  {'eta': 2e-3},
  {'eta': 0.3},
  {'top_k': 50, 'top_p': 0.9},
  {'min_p': 0.05, 'top_p': 0.9},
  {'top_h_cumulative': 0.8, 'min_p': 0.02, 'typical': 0.9},
  {'min_p': 0.01, 'typical': 0.95, 'epsilon': 0.01, 'eta': 0.02},
  {
    'top_h_cumulative': 0.95,
    'min_p': 0.003,
    'top_k': 40,
    'top_p': 0.97,
    'typical': 0.95,
    'epsilon': 0.01,
    'eta': 0.05,
  },
]


@pytest.mark.parametrize('temperature', [0.6, 1.0, 1.7])
@pytest.mark.parametrize('settings', CASES, ids=lambda case: '+'.join(case))
def test_kept_sets_are_those_of_transformers(settings, temperature):
  """Of theirs in float64 in every row; in float32 theirs round differently.

  That changes a row where an id is some 1e-7 from a bound, and, in top-H,
  where one id has all but 1e-6 of the mass: theirs take the logarithm of a
  probability that is rounded to 1.
  """
  scores = laws()
  ours = our_scores(scores, temperature, settings)
  exact = their_scores(scores, temperature, settings, 'float64')
  coarse = their_scores(scores, temperature, settings, 'float32')
  same = np.all(np.isfinite(ours) == np.isfinite(exact), axis=-1)
  # Which of several equal logits a rule that counts keeps is not stated
  # there, and differs: in the rows with ties compare by rank.
  assert np.all(same[IS_UNTIED])
  ours, exact, coarse = np.sort(ours), np.sort(exact), np.sort(coarse)
  is_kept = np.isfinite(ours)
  np.testing.assert_array_equal(is_kept, np.isfinite(exact))
  assert 0 < is_kept.mean() < 1
  np.testing.assert_allclose(ours[is_kept], exact[is_kept], atol=1e-5)
  differs = np.any(is_kept != np.isfinite(coarse), axis=-1)
  assert differs.sum() <= 1


@pytest.mark.parametrize('temperature', [0.3, 1.0, 1.7])
def test_temperature_alone_is_that_of_transformers(temperature):
  scores = laws()
  exact = their_scores(scores, temperature, {}, 'float64')
  ours = our_scores(scores, temperature, {})
  np.testing.assert_allclose(ours, exact, atol=1e-5)


@pytest.mark.parametrize('temperature', [0.6, 1.0])
@pytest.mark.parametrize(
  'settings', [{'top_p': 0.9}, {'min_p': 0.02, 'typical': 0.9}]
)
def test_replay_is_that_of_torch(settings, temperature):
  """Old logits give the set, new ones the law; values and gradients."""
  torch = pytest.importorskip('torch', reason=WHY)
  old, rows = laws(), np.arange(ROWS)
  random = np.random.default_rng(1)
  new = (old + random.normal(size=old.shape)).astype(np.float32)
  temperature = np.float32(temperature)
  kept = truncate(old, temperature, Rules(**settings), most=128)
  # One of the kept, at random.
  noise = random.uniform(size=kept.ids.shape)
  at = np.argmax(np.where(kept.is_kept, noise, -1), axis=-1)
  chosen = np.asarray(kept.ids)[rows, at]

  def replay(scores):
    logp = truncation.renormalize(
      scores / temperature, kept.ids, kept.is_kept, chosen
    )
    return logp.sum(), logp

  (_, found), slope = jax.value_and_grad(replay, has_aux=True)(new)
  exact = their_scores(old, temperature, {'top_k': 128} | settings, 'float64')
  z = torch.tensor(new, dtype=torch.float64, requires_grad=True)
  masked = (z / float(temperature)).masked_fill(
    torch.tensor(~np.isfinite(exact)), -torch.inf
  )
  logp = masked.log_softmax(-1)[torch.tensor(rows), torch.tensor(chosen)]
  logp.sum().backward()
  # Which of equal logits are kept differs.
  for ours, theirs in ((found, logp.detach()), (slope, z.grad)):
    np.testing.assert_allclose(
      ours[IS_UNTIED], theirs.numpy()[IS_UNTIED], atol=1e-5
    )


@pytest.mark.parametrize('n', [0.5, 1.0, 1.3])
def test_top_n_sigma_is_that_of_torch(n):
  """No processor of theirs; the line of the paper's code (2411.07641)."""
  torch = pytest.importorskip('torch', reason=WHY)
  scores = laws()
  z = torch.tensor(scores)
  least = z.max(-1, keepdim=True).values - n * z.std(-1, keepdim=True)
  ours = our_scores(scores, 0.7, {'top_n_sigma': n})
  np.testing.assert_array_equal(np.isfinite(ours), (z >= least).numpy())
