"""GRPO without KL on problems of levels 2 to 8, evaluated every four steps.

What shares this setting changes how problems are chosen, and nothing else.
"""

from configs import objectives
from configs.tiny import setting

CAP = 160  # tokens of a response


def choosing(rounds=1, **parts):
  """A run with these parts in place of GRPO's.

  Args:
    rounds: sampling rounds of a step at most.
    **parts: of the objective.
  """
  objective = objectives.compose(budget=objectives.constant(CAP), **parts)
  config = setting.tiny(objective, room=CAP, rounds=rounds)
  config.train.steps = 48
  config.train.token_budget = 0
  config.train.rollouts_every = 0
  config.eval.problems = 128
  config.eval.samples = 8
  config.eval.max_tokens = CAP
  config.eval.every = 4
  return config
