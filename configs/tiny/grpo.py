"""Plain GRPO on the embedded tiny LRM: the control of the quickstart.

  lrm train --config=configs/tiny/grpo.py --workdir=runs/grpo

No length pressure: the cap is that of the evaluation, and a truncated
response is merely wrong.
"""

from configs import objectives, quickstart


def get_config():
  config = quickstart.get_config()
  config.objective = objectives.grpo(cap=384)
  config.train.steps = 75  # samples about as many tokens as the quickstart
  config.train.max_tokens = 384
  config.train.row_length = 432  # prompt + response
  config.train.rows = 24
  config.train.max_rounds = 1  # every group is kept
  return config
