"""DLER and DA-DLER (arXiv 2510.15110): runs and claims; `lrm table dler`."""

from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Claim, Condition, Paper, Run

_SIZES = {
  '': 'tiny_lrm',
  '_small': 'tiny_lrm_small',
  '_large': 'tiny_lrm_large',
}
_HUNDRED = {'train.steps': 100, 'train.token_budget': 0}
_FIFTY = {'train.steps': 50, 'train.token_budget': 0}


def _shorter(name):
  """Response tokens after training, % more than before."""
  return lambda r: estimates.scaled(
    100, estimates.relative_change(r.tokens(name), r.tokens(name, 'before'))
  )


def _righter(name):
  """Accuracy after training less that before, in points."""
  return lambda r: estimates.mean(
    100 * (r.right(name) - r.right(name, 'before'))
  )


def _easy(results, name):
  """Tokens of the problems with 2 to 4 operations."""
  return results.tokens(name)[:, results.levels() <= 4]


def _claim(suffix, size):
  name = f'dler{suffix}'
  return Claim(
    f'DLER takes 70 % of the tokens or more, at equal accuracy: {size}',
    '-77 % at +3 to +8 points (1.5B), -69 % (7B)',
    (
      Condition('tokens, %', _shorter(name), -70.0),
      Condition('accuracy, points', _righter(name), -1.0, is_above=True),
    ),
  )


def get_paper():
  """DLER from three sizes; DA-DLER, and DLER itself, go on from the default."""
  runs = [
    Run(f'dler{suffix}', 'configs/tiny/dler.py', start, _HUNDRED)
    for suffix, start in _SIZES.items()
  ]
  runs += [
    Run(
      'dler_tight',
      'configs/tiny/dler.py',
      changes=_HUNDRED | {'objective.budget.cap': 64},
    ),
    Run('dler_on', 'configs/tiny/dler.py', 'dler', _FIFTY),
    Run('da_dler_on', 'configs/tiny/da_dler.py', 'dler', _FIFTY),
  ]
  return Paper(
    name='dler',
    runs=tuple(runs),
    claims=(
      _claim('', '0.4 M parameters'),
      _claim('_tight', '0.4 M parameters, a cap of 64'),
      _claim('_small', '0.1 M parameters'),
      _claim('_large', '1.6 M parameters'),
      Claim(
        'DA-DLER, 50 steps on, is shorter still on easy problems than DLER, '
        '50 steps on',
        'MATH: -10 % tokens, -0.2 points (1.5B)',
        (
          Condition(
            'tokens on levels 2 to 4, %',
            lambda r: estimates.scaled(
              100,
              estimates.relative_change(
                _easy(r, 'da_dler_on'), _easy(r, 'dler_on')
              ),
            ),
            0.0,
          ),
          Condition(
            'accuracy, points',
            lambda r: estimates.mean(
              100 * (r.right('da_dler_on') - r.right('dler_on'))
            ),
            -1.0,
            is_above=True,
          ),
        ),
      ),
    ),
    models={
      model: f'configs/{model}.py'
      for model in _SIZES.values()
      if model != 'tiny_lrm'
    },
    evaluation={'train.rollouts_every': 0},
  )
