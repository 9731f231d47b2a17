"""Simulated experiments: how often intervals hold the truth.

All experiments of a test share their resamples, of which there are enough for
that not to matter: every experiment has its own data.
"""

import numpy as np
import pytest

from lrm_jax.evaluation import intervals

EXPERIMENTS = 2000
SAMPLES = 4


def experiments(problems, seed):
  """`[E, B]` sums of two runs' verdicts, and the true difference of accuracy.

  Problems differ in how hard they are, and the second run is better on some:
  exactly what pairs share and what they do not.
  """
  rng = np.random.default_rng(seed)
  shape = EXPERIMENTS, problems
  easy = rng.beta(0.8, 0.5, shape)
  gain = rng.uniform(-0.1, 0.3, shape)
  second = np.clip(easy + gain, 0, 1)
  # Of all problems there could be.
  huge = np.random.default_rng(1)
  base = huge.beta(0.8, 0.5, 4_000_000)
  better = np.clip(base + huge.uniform(-0.1, 0.3, base.shape), 0, 1)
  truth = float((better - base).mean())
  draw = lambda p: rng.binomial(SAMPLES, p).astype(float)
  return draw(easy), draw(second), truth


def covered(low, high, truth):
  return float(np.mean((low <= truth) & (truth <= high)))


def within(share, expected):
  """Whether a share of experiments is as expected, to 3.3 binomial errors."""
  error = np.sqrt(expected * (1 - expected) / EXPERIMENTS)
  return abs(share - expected) < 3.3 * error


# What a percentile interval can: it is that of a normal law with the factor
# sqrt((B - 1) / B), so P(|t of B - 1 degrees| < 1.96 sqrt((B - 1) / B)).
@pytest.mark.parametrize(('problems', 'expected'), [(30, 0.935), (200, 0.948)])
def test_the_paired_interval_covers(problems, expected):
  first, second, truth = experiments(problems, seed=problems)
  gains = (second - first).T
  draws = intervals.bootstrap(
    lambda counts: counts @ gains / (problems * SAMPLES), problems, draws=1500
  )
  low, high = intervals.percentile(draws)
  assert within(covered(low, high, truth), expected)
  # The function that reports it is that.
  one = intervals.paired_difference(
    first[0][:, None], second[0][:, None], draws=1500
  )
  scaled = one.low / SAMPLES, one.high / SAMPLES
  assert scaled == pytest.approx((low[0], high[0]))


def test_the_ratio_of_tokens_covers():
  rng = np.random.default_rng(0)
  problems = 200
  hard = rng.lognormal(5, 0.6, (EXPERIMENTS, problems))
  noise = lambda: rng.gamma(4, 0.25, (EXPERIMENTS, problems))
  first, second = hard * noise(), 0.7 * hard * noise()
  draws = intervals.bootstrap(
    lambda counts: (counts @ second.T) / (counts @ first.T),
    problems,
    draws=1500,
  )
  low, high = intervals.percentile(draws)
  assert within(covered(low, high, 0.7), 0.948)


def test_pairs_that_are_not_paired_would_cover_too_much():
  """The test above can fail: resampled apart, nearly every interval covers."""
  first, second, truth = experiments(200, seed=200)
  spread = lambda x: x.mean(1).std() * 1.96 / SAMPLES
  half = np.hypot(spread(first), spread(second))
  middle = (second - first).mean(1) / SAMPLES
  assert covered(middle - half, middle + half, truth) > 0.985


def test_a_null_is_rejected_as_often_as_said():
  rng = np.random.default_rng(5)
  problems = 100
  chance = rng.beta(0.8, 0.5, (EXPERIMENTS, problems))
  draw = lambda: rng.binomial(SAMPLES, chance).astype(float)
  gains = (draw() - draw()).T
  draws = intervals.bootstrap(
    lambda counts: counts @ gains, problems, draws=1500
  )
  p = np.array([intervals.two_sided(column, 0.0) for column in draws.T])
  # P(|t of 99 degrees| >= 1.96 sqrt(99 / 100)) = 5.4 %.
  assert within(float((p < 0.05).mean()), 0.054)
