"""What all methods share on the embedded tiny LRM: data, sizes, budget.

The start thinks in 117 tokens, 3.4 times the shortest trace, and is right in
77 % of its answers. A run ends when 750,000 response tokens have been
sampled, those that a method drops included, so methods compare at equal cost.
"""

from configs import quickstart

# Keys for `configs/tiny_lrm_leaps.py`, whose responses have 41 tokens.
LEAPS = {
  'objective.budget.cap': 128,
  'train.max_tokens': 128,
  'train.row_length': 176,
  'train.rows': 58,
}


def tiny(objective, *, room=256, rounds=1):
  """A run of `objective`.

  Args:
    objective: of `objectives.py`, `efficient.py` or `credits.py`.
    room: tokens a response may ever have; the objective's caps stay below.
    rounds: sampling rounds at most; more than one for a dynamic sampling that
      fills its batch.
  """
  config = quickstart.get_config()
  config.objective = objective
  config.train.steps = 400  # the token budget ends a run long before
  config.train.token_budget = 750_000
  config.train.max_tokens = room
  config.train.max_rounds = rounds
  config.train.row_length = room + 48  # prompt + response
  config.train.rows = 10_240 // config.train.row_length
  config.train.checkpoint_every = 10
  return config
