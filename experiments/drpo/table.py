"""DRPO (arXiv 2510.04474): runs and claims; `lrm table drpo`."""

from configs.tiny import setting
from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Claim, Condition, Paper, Run

_START = 'tiny_lrm_leaps'
_SIXTY = {'train.steps': 60, 'train.token_budget': 0}
# RLOO-LP, by the weight of its length term; without one it is RLOO.
_ALPHAS = {'rloo': 0.0, 'rloo_lp_02': 0.2, 'rloo_lp_04': 0.4}


def get_paper():
  """DRPO, RLOO with a length penalty, and both without their length term."""
  runs = [
    Run('disco', 'configs/tiny/disco.py', _START, _SIXTY),
    Run('drpo', 'configs/tiny/drpo.py', _START, _SIXTY),
  ]
  for name, alpha in _ALPHAS.items():
    weight = {'objective.shaping.sigmoid_length.alpha': alpha}
    config = 'configs/tiny/arora_zanette.py'
    runs.append(Run(name, config, _START, _SIXTY | weight))
  return Paper(
    name='drpo',
    runs=tuple(runs),
    claims=(
      Claim(
        'At equal length DRPO loses under a third of the accuracy that RLOO '
        'with a length penalty loses',
        'GSM8K: -1.1 points at -77 % tokens, the best baseline -4.3 at -68 % '
        '(1.5B)',
        (
          Condition(
            'what RLOO-LP loses against RLOO, at the length of DRPO, points',
            lambda r: estimates.mean(100 * _lost_by_penalty(r)),
            0.0,
            is_above=True,
            is_premise=True,
          ),
          Condition(
            'what DRPO loses against RLOO, less a third of that, points',
            lambda r: estimates.mean(
              100 * (_lost_by_drpo(r) - _lost_by_penalty(r) / 3)
            ),
            0.0,
          ),
        ),
      ),
      Claim(
        'At equal length DRPO is more accurate than RLOO-LP',
        'mean of five: 62.4 % at 1527 tokens, RLOO-LP 56.7 % at 2531 (1.5B)',
        (
          Condition(
            'accuracy, points',
            lambda r: estimates.mean(100 * (r.right('drpo') - _penalised(r))),
            0.0,
            is_above=True,
          ),
        ),
      ),
    ),
    models={_START: f'configs/{_START}.py'},
    evaluation={'train.rollouts_every': 0, 'eval.every': 20} | setting.LEAPS,
  )


def _penalised(results):
  """What RLOO-LP would get right at the length of DRPO."""
  return estimates.at_length(
    [results.right(name) for name in _ALPHAS],
    [results.tokens(name) for name in _ALPHAS],
    results.tokens('drpo').mean(axis=1),
  )


def _lost_by_penalty(results):
  return results.right('rloo') - _penalised(results)


def _lost_by_drpo(results):
  return results.right('rloo') - results.right('drpo')
