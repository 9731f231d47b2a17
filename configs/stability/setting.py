"""GRPO where it breaks: sixteen updates a batch at a high learning rate.

A step samples 128 responses and goes over them four times in four mini-batches,
against the log-probabilities of the policy before the step. What shares this
setting changes one thing; see experiments/stability.
"""

from configs import objectives
from configs.tiny import setting

CAP = 96  # tokens of a response


def off_policy(objective=None):
  """A run of `objective`; GRPO without KL where there is none given."""
  if objective is None:
    objective = objectives.compose(budget=objectives.constant(CAP))
  config = setting.tiny(objective, room=CAP)
  config.data.train = 'chain_arithmetic:train:2-4'
  config.data.eval = 'chain_arithmetic:heldout:2-4'
  config.train.steps = 40
  config.train.token_budget = 0
  config.train.problems = 16
  config.train.samples = 8
  config.train.rows = 16
  config.train.groups = 4
  config.train.mini_batches = 4
  config.train.passes = 4
  config.train.old_logp = 'trainer'
  config.train.rollouts_every = 0
  config.eval.problems = 128
  config.eval.samples = 4
  config.eval.max_tokens = CAP
  config.optimizer.learning_rate = 1e-3
  return config
