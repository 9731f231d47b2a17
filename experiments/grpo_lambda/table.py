"""GRPO-lambda (arXiv 2505.18086): runs and claims; `lrm table grpo_lambda`."""

from configs.tiny import setting
from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Claim, Condition, Paper, Run

_START = 'tiny_lrm_leaps'
_SEEDS = (0, 1, 2, 3, 4)
_LAMBDA, _FIXED = 'grpo_lambda', 'group_length'


def _risen(name):
  """Accuracy after training less that before, in points."""
  return lambda r: estimates.mean(
    100 * (r.right(name) - r.right(name, 'before'))
  )


def get_paper():
  """The length reward for the best fifth of the groups, and for every one."""
  hundred = {'train.steps': 100, 'train.token_budget': 0}
  return Paper(
    name='grpo_lambda',
    runs=(
      Run(_LAMBDA, 'configs/tiny/grpo_lambda.py', _START, hundred, _SEEDS),
      Run(
        _FIXED,
        'configs/tiny/controls/group_length.py',
        _START,
        hundred,
        _SEEDS,
      ),
    ),
    claims=(
      Claim(
        'It stays up where a fixed penalty falls',
        '+1.5 points at -47 % tokens; the fixed penalty collapses',
        (
          Condition(
            'accuracy with the fixed penalty, points from the start',
            _risen(_FIXED),
            -3.0,
            is_premise=True,
          ),
          Condition(
            'accuracy with lambda, points from the start',
            _risen(_LAMBDA),
            -1.0,
            is_above=True,
          ),
        ),
      ),
      Claim(
        'After as many steps it is more accurate than the fixed penalty',
        '+1.5 points, the fixed penalty +0.0 at its best',
        (
          Condition(
            'accuracy, points',
            lambda r: estimates.mean(
              100 * (r.right(_LAMBDA) - r.right(_FIXED))
            ),
            0.0,
            is_above=True,
          ),
        ),
      ),
    ),
    models={_START: f'configs/{_START}.py'},
    evaluation={'train.rollouts_every': 0, 'eval.every': 20} | setting.LEAPS,
  )
