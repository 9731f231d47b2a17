"""SIRI (arXiv 2509.25176): runs and claims; `lrm table siri`."""

from lrm_jax.papers import estimates
from lrm_jax.papers.paper import Claim, Condition, Paper, Run

# Half a period of 12 steps, and two and a half of them.
FIRST, THIRD = 'step_000006', 'step_000030'


def get_paper():
  """Three cycles of the cosine, evaluated at the troughs and the ends."""
  return Paper(
    name='siri',
    runs=(
      Run(
        'siri',
        'configs/tiny/siri.py',
        changes={'train.steps': 36, 'train.token_budget': 0, 'eval.every': 6},
      ),
    ),
    claims=(
      Claim(
        'The third trough is shorter than the first, and not less accurate',
        'SIRI-low (third trough): AIME24 40.4 % at 7093 tokens, before 28.2 % '
        'at 12333 (1.5B)',
        (
          Condition(
            'tokens, %',
            lambda r: estimates.scaled(
              100,
              estimates.relative_change(
                r.tokens('siri', THIRD), r.tokens('siri', FIRST)
              ),
            ),
            0.0,
          ),
          Condition(
            'accuracy, points',
            lambda r: estimates.mean(
              100 * (r.right('siri', THIRD) - r.right('siri', FIRST))
            ),
            0.0,
            is_above=True,
          ),
        ),
      ),
    ),
    evaluation={'train.rollouts_every': 0},
  )
