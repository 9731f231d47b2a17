"""A reward of one's own: thinking costs.

lrm train --config=experiments/own_reward/thrifty.py --workdir=runs/thrifty
"""

from configs import objectives
from configs.tiny import setting
from lrm_jax.objectives import tables


def thrifty(rollouts, *, price):
  """`c * (1 - price * thinking tokens / cap)`; wrong answers get 0."""
  share = rollouts.thinking_length / rollouts.cap[:, None]
  return rollouts.correct * (1 - price * share)


tables.SHAPING['thrifty'] = thrifty


def get_config():
  """Thrifty, on the embedded tiny LRM."""
  return setting.tiny(
    objectives.compose(
      budget=objectives.constant(256),
      shaping=dict(thrifty=dict(price=0.5)),
    )
  )
