"""Rotary frequencies of every kind: by hand, by loops, and those of others."""

import math
import pathlib

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.models import positions, rope
from lrm_jax.models.rope import Rope
from tests.models import tiny

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'rope.npz'


def make(kind, theta=100.0, fraction=1.0, **settings):
  return Rope(kind, theta, fraction, tuple(settings.items()))


def turns_of(which, width, window=64):
  return rope.frequencies(which, width, window)


# By hand.

PI = math.pi
# kind, theta, width, window, settings -> frequencies, factor of cos and sin.
LITERALS = {
  # 100^0 and 100^(-2/4).
  'default': (100, 4, 64, {}, [1, 0.1], 1),
  # A quarter of them.
  'linear': (100, 4, 64, {'factor': 4}, [0.25, 0.025], 1),
  # Half of 4 pairs, of the whole width: 100^0 and 100^(-2/8), halved.
  'proportional': (
    100,
    8,
    64,
    {'share': 0.5, 'factor': 2},
    [0.5, 0.5 * 10**-0.5, 0, 0],
    1,
  ),
  # theta' = 100 * 4^(4 / 2) = 1600, whose root is 40: the slowest / 4.
  'ntk': (100, 4, 64, {'factor': 4}, [1, 1 / 40], 1),
  # s = 2 * 16 / 8 - 1 = 3; theta' = 100 * 3^2 = 900.
  'dynamic': (
    100,
    4,
    16,
    {'factor': 2, 'original_max_position_embeddings': 8},
    [1, 1 / 30],
    1,
  ),
  # corr(b) = 8 ln(6284 / 2 pi b) / (2 ln 10) = 4 log10(1000.1 / b): 1.204 at
  # b = 500 and 3.296 at b = 150, so low = 1 and high = 4. The ramp is 0, 0,
  # 1/3, 2/3, of which a half is lost; 0.1 ln 2 + 1 = 1.0693.
  'yarn': (
    10,
    8,
    64,
    {
      'factor': 2,
      'original_max_position_embeddings': 6284,
      'beta_fast': 500,
      'beta_slow': 150,
    },
    [1, 10**-0.25, 10**-0.5 * 5 / 6, 10**-0.75 * 2 / 3],
    1.0693147,
  ),
  # 1, 0.1 and 0.01 make 20, 2 and 0.2 waves in 40 pi tokens: kept, a third
  # kept ((2 - 1) / (4 - 1)), divided by 8. 0.1 (1/3 + 2/3 / 8) = 0.041667.
  'llama3': (
    1000,
    6,
    64,
    {
      'factor': 8,
      'low_freq_factor': 1,
      'high_freq_factor': 4,
      'original_max_position_embeddings': 40 * PI,
    },
    [1, 0.0416667, 0.00125],
    1,
  ),
  # 256 tokens are 16 times as many: the long factors, (1 + ln 16 / ln 16)^.5.
  'longrope': (
    100,
    4,
    256,
    {
      'short_factor': (1, 2),
      'long_factor': (2, 5),
      'original_max_position_embeddings': 16,
    },
    [0.5, 0.02],
    2**0.5,
  ),
  # 1, .1, .01, .001 against 2 pi / 100 = .0628 and an eighth of it, .00785:
  # the third becomes 2 pi / 1600, the last 0.
  'truncated': (10_000, 8, 64, {'truncate': 100}, [1, 0.1, PI / 800, 0], 1),
}


@pytest.mark.parametrize('kind', rope.KINDS)
def test_every_kind_by_hand(kind):
  theta, width, window, settings, expected, expected_factor = LITERALS[kind]
  turns, factor = turns_of(make(kind, theta, **settings), width, window)
  assert turns.dtype == np.float32
  np.testing.assert_allclose(turns, expected, rtol=1e-6)
  np.testing.assert_allclose(factor, expected_factor, rtol=1e-6)


def test_within_its_first_window_dynamic_changes_nothing():
  which = make('dynamic', factor=2, original_max_position_embeddings=8)
  for window in (4, 8):
    np.testing.assert_allclose(turns_of(which, 4, window)[0], [1, 0.1])


def test_within_its_first_window_longrope_takes_the_short_factors():
  settings = {'short_factor': (1, 2), 'long_factor': (2, 5)}
  which = make('longrope', original_max_position_embeddings=16, **settings)
  turns, factor = turns_of(which, 4, 16)
  np.testing.assert_allclose(turns, [1, 0.05])
  assert factor == 1


def test_frequencies_are_those_of_the_run():
  """Both kinds that depend on the window; no other config changes."""
  original = ('original_max_position_embeddings', 8)
  plain = tiny.make_config(head_dim=8, max_positions=64)
  long = Rope(
    'longrope',
    plain.rope.theta,
    settings=(
      ('long_factor', (2.0,) * 4),
      original,
      ('short_factor', (1.0,) * 4),
    ),
  )
  config = tiny.make_config(rope=long, head_dim=8, max_positions=64)
  at = np.array([[[0, 1, 7]]])

  def cos(config):
    prepare = positions.SCHEMES['rope'].prepare
    return np.asarray(prepare(config, config.kinds[0], at)[0])

  for tokens, factor in ((8, 1.0), (9, 2.0), (64, 2.0)):
    run = config.for_length(tokens)
    assert run.reach == tokens and run.max_positions == 64
    turns, _ = rope.frequencies(plain.rope, 8, 64)
    _, scale = rope.frequencies(long, 8, tokens)
    expected = np.cos(at[..., None] * turns / factor) * scale
    np.testing.assert_allclose(cos(run), expected, atol=1e-6)
  np.testing.assert_array_equal(cos(config), cos(config.for_length(64)))
  assert plain.for_length(8) == plain and plain.reach == 64


# Published numbers.


@pytest.mark.parametrize(
  ('width', 'theta', 'window', 'low', 'high'),
  [
    (128, 1e4, 4096, 20, 46),
    (128, 1e6, 32768, 23, 40),
    (64, 1e4, 2048, 8, 21),
    (128, 5e5, 8192, 18, 35),
  ],
)
def test_yarn_ramps_between_two_pairs(width, theta, window, low, high):
  """Those up to `low` stay, those from `high` on turn 4 times slower."""
  which = make('yarn', theta, factor=4, original_max_position_embeddings=window)
  ratio = turns_of(which, width)[0] / turns_of(make('default', theta), width)[0]
  np.testing.assert_allclose(ratio[: low + 1], 1, rtol=1e-6)
  np.testing.assert_allclose(ratio[high:], 0.25, rtol=1e-6)
  between = ratio[low : high + 1]
  # 1 - 3/4 of the ramp, in equal steps.
  np.testing.assert_allclose(np.diff(between), -0.75 / (high - low), rtol=1e-3)


@pytest.mark.parametrize(
  ('stretch', 'factor'),
  [(1, 1), (2, 1.0693), (4, 1.1386), (8, 1.2079), (16, 1.2773), (32, 1.3466)],
)
def test_yarn_factor(stretch, factor):
  which = make('yarn', factor=stretch, original_max_position_embeddings=4096)
  assert turns_of(which, 64)[1] == pytest.approx(factor, abs=5e-5)


def test_yarn_factors_of_others():
  """(0.1 * 0.5 ln 4 + 1) / (0.1 * 2 ln 4 + 1) = 1.069315 / 1.277259."""
  base = {'factor': 4, 'original_max_position_embeddings': 4096}
  both = make('yarn', mscale=0.5, mscale_all_dim=2.0, **base)
  assert turns_of(both, 64)[1] == pytest.approx(0.837195, abs=1e-6)
  # Not given, or zero, is the usual one.
  one = make('yarn', mscale=0.5, mscale_all_dim=0, **base)
  assert turns_of(one, 64)[1] == pytest.approx(1.138629, abs=1e-6)
  stated = make('yarn', attention_factor=1.5, mscale=0.5, **base)
  assert turns_of(stated, 64)[1] == 1.5


@pytest.mark.parametrize(
  ('stretch', 'factor'), [(1, 1), (8, 1.118), (32, 1.190)]
)
def test_longrope_factor(stretch, factor):
  settings = {'short_factor': (1,) * 8, 'long_factor': (2,) * 8}
  which = make('longrope', original_max_position_embeddings=4096, **settings)
  found = turns_of(which, 16, 4096 * stretch)[1]
  assert found == pytest.approx(factor, abs=5e-4)
  # Stated, it does not depend on the window.
  which = make(
    'longrope',
    factor=stretch,
    original_max_position_embeddings=4096,
    **settings,
  )
  assert turns_of(which, 16, 4096)[1] == pytest.approx(factor, abs=5e-4)


# Loops in float64.


def loop_ntk(width, theta, factor):
  return [
    (theta * factor ** (width / (width - 2))) ** (-2 * i / width)
    for i in range(width // 2)
  ]


def loop_yarn(width, theta, factor, length, fast, slow):
  def corr(turns):
    return width * math.log(length / (turns * 2 * PI)) / (2 * math.log(theta))

  low, high = max(math.floor(corr(fast)), 0), math.ceil(corr(slow))
  high = min(high, width - 1)
  out = []
  for i in range(width // 2):
    turn = theta ** (-2 * i / width)
    part = min(max((i - low) / (high - low), 0.0), 1.0)
    out.append(turn * (1 - part) + turn / factor * part)
  return out


def loop_llama3(width, theta, factor, low, high, length):
  out = []
  for i in range(width // 2):
    turn = theta ** (-2 * i / width)
    wavelength = 2 * PI / turn
    if wavelength < length / high:
      out.append(turn)
    elif wavelength > length / low:
      out.append(turn / factor)
    else:
      smooth = (length / wavelength - low) / (high - low)
      out.append((1 - smooth) * turn / factor + smooth * turn)
  return out


def loop_truncated(width, theta, truncate):
  cutoff = 2 * PI / truncate
  out = []
  for i in range(width // 2):
    turn = theta ** (-2 * i / width)
    if turn < cutoff:
      turn = cutoff / 16 if turn >= cutoff / 8 else 0.0
    out.append(turn)
  return out


@pytest.mark.parametrize('theta', [1e4, 5e5])
@pytest.mark.parametrize('width', [16, 96])
def test_every_kind_is_its_loop(width, theta):
  plain = [theta ** (-2 * i / width) for i in range(width // 2)]
  original = {'original_max_position_embeddings': 2048}
  betas = {'beta_fast': 20, 'beta_slow': 2}
  waves = {'low_freq_factor': 0.5, 'high_freq_factor': 6}
  factors = {
    'short_factor': tuple(1 + 0.1 * i for i in range(width // 2)),
    'long_factor': tuple(1 + i for i in range(width // 2)),
  }
  cases = {
    'default': ({}, plain),
    'linear': ({'factor': 3.5}, [turn / 3.5 for turn in plain]),
    'proportional': (
      {'share': 0.25},
      [turn if 4 * i < width // 2 else 0.0 for i, turn in enumerate(plain)],
    ),
    'ntk': ({'factor': 3.5}, loop_ntk(width, theta, 3.5)),
    # 4096 tokens: 1.5 * 2 - 0.5 = 2.5.
    'dynamic': ({'factor': 1.5} | original, loop_ntk(width, theta, 2.5)),
    'yarn': (
      {'factor': 3.5} | original | betas,
      loop_yarn(width, theta, 3.5, 2048, 20, 2),
    ),
    'llama3': (
      {'factor': 3.5} | original | waves,
      loop_llama3(width, theta, 3.5, 0.5, 6, 2048),
    ),
    'longrope': (
      factors | original,
      [turn / (1 + i) for i, turn in enumerate(plain)],
    ),
    'truncated': ({'truncate': 500}, loop_truncated(width, theta, 500)),
  }
  assert cases.keys() == rope.KINDS.keys()
  for kind, (settings, expected) in cases.items():
    found, _ = turns_of(make(kind, theta, **settings), width, 4096)
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=kind)


# Refusals.

LONG = {
  'short_factor': (1, 1),
  'long_factor': (1, 1),
  'original_max_position_embeddings': 16,
}
BANDS = {
  'factor': 8,
  'low_freq_factor': 4,
  'high_freq_factor': 4,
  'original_max_position_embeddings': 64,
}


@pytest.mark.parametrize(
  ('make_it', 'words'),
  [
    (lambda: make('su'), ["kind='su'", 'yarn', 'longrope']),
    (lambda: make('linear'), ["'linear'", 'no factor', 'it takes factor']),
    (lambda: make('default', factor=2.0), ['unknown factor', 'no settings']),
    (
      lambda: make('yarn', scale=2.0),
      ['unknown scale', 'no factor', 'no original_max', 'beta_fast'],
    ),
    (lambda: make('linear', factor='8'), ["factor='8'", 'positive number']),
    (lambda: make('linear', factor=0), ['factor=0', 'positive number']),
    (lambda: make('linear', factor=math.inf), ['factor=inf', 'positive']),
    (lambda: make('linear', factor=True), ['factor=True', 'positive']),
    (
      lambda: make('longrope', **LONG | {'long_factor': (1, -1)}),
      ['long_factor=(1, -1)', 'positive numbers'],
    ),
    (
      lambda: make(
        'yarn', factor=2, original_max_position_embeddings=64, truncate=1
      ),
      ['truncate=1', 'True or False'],
    ),
    (
      lambda: make(
        'yarn', factor=2, original_max_position_embeddings=64, beta_fast=0
      ),
      ['beta_fast=0', 'positive number'],
    ),
    (lambda: make('default', theta=0.0), ['theta=0.0', 'positive']),
    (lambda: make('default', fraction=1.5), ['fraction=1.5', 'at most 1']),
    (
      lambda: turns_of(make('longrope', **LONG), 8, 16),
      ["'longrope'", '2 factors for 4 pairs'],
    ),
    (
      lambda: turns_of(make('llama3', **BANDS), 8),
      ['low_freq_factor=4', 'below', 'high_freq_factor=4'],
    ),
    (
      lambda: turns_of(make('default', fraction=0.5), 6),
      ['fraction=0.5', 'head_dim=6', 'turns 3', 'even'],
    ),
    (lambda: turns_of(make('ntk', factor=2), 2), ["'ntk'", 'single pair']),
  ],
)
def test_impossible_ropes_are_refused(make_it, words):
  with pytest.raises(UserError) as error:
    make_it()
  assert all(word in str(error.value) for word in words), error.value
  assert '\n' not in str(error.value)
