"""SIRI (arXiv 2509.25176): runs and claims; `lrm table siri`."""

from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Claim, Condition, Paper, Run

_LEAPS = 'tiny_lrm_leaps'
_CONFIG = 'configs/tiny/siri.py'


def get_paper():
  """Three cycles of the cosine, evaluated at its troughs and peaks."""
  return Paper(
    name='siri',
    runs=(
      Run('siri_leaps', _CONFIG, _LEAPS, _cycles(40, 80, 20) | _short(80)),
      Run('constant_leaps', _CONFIG, _LEAPS, _cycles(80, 80, 20) | _short(80)),
      Run('siri', _CONFIG, changes=_cycles(80, 160, 12)),
    ),
    claims=(
      _claim('siri_leaps', 20, 'where thinking helps'),
      _claim('siri', 12, 'the embedded model'),
      Claim(
        'Its third peak is more accurate than the same steps at a constant '
        'cap, which compress nothing',
        'SIRI-high: AIME24 43.6 % at 10049 tokens (1.5B)',
        (
          Condition(
            'accuracy, points',
            lambda r: estimates.mean(
              100 * (r.right('siri_leaps') - r.right('constant_leaps'))
            ),
            0.0,
            is_above=True,
          ),
        ),
      ),
    ),
    models={_LEAPS: f'configs/{_LEAPS}.py'},
    evaluation={'train.rollouts_every': 0},
  )


def _cycles(low, high, period):
  """Three periods, evaluated at each trough and each peak."""
  return {
    'objective.budget.low': low,
    'objective.budget.high': high,
    'objective.budget.period': period,
    'train.steps': 3 * period,
    'train.token_budget': 0,
    'eval.every': period // 2,
  }


def _short(room):
  """Rows for responses of at most `room` tokens."""
  width = room + 48  # prompt + response
  return {
    'train.max_tokens': room,
    'train.row_length': width,
    'train.rows': 10_240 // width,
  }


def _claim(name, period, where):
  first, peak, third = (
    f'step_{int(cycles * period):06d}' for cycles in (0.5, 1, 2.5)
  )
  return Claim(
    f'The third trough is shorter than the first, and not less accurate: '
    f'{where}',
    'SIRI-low (third trough): AIME24 40.4 % at 7093 tokens, before 28.2 % at '
    '12333 (1.5B)',
    (
      Condition(
        'tokens from the first trough to the peak behind it, %',
        _longer(name, first, peak),
        0.0,
        is_above=True,
        is_premise=True,
      ),
      Condition(
        'tokens from the first trough to the third, %',
        _longer(name, first, third),
        0.0,
      ),
      Condition(
        'accuracy, points',
        lambda r: estimates.mean(
          100 * (r.right(name, third) - r.right(name, first))
        ),
        0.0,
        is_above=True,
      ),
    ),
  )


def _longer(name, early, late):
  return lambda r: estimates.scaled(
    100, estimates.relative_change(r.tokens(name, late), r.tokens(name, early))
  )
