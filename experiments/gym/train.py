"""DLER on `chain_sum` of reasoning-gym, from the model of `sft.py`.

  lrm train --config=experiments/gym/train.py --workdir=runs/gym/dler

Two CPU cores, minutes. Verdicts are those of the task's own `score_answer`.
"""

from ml_collections import config_dict

from configs import quickstart

TASK = 'gym:chain_sum?max_digits=1,max_terms=4'


def get_config() -> config_dict.ConfigDict:
  """The quickstart on another task and another model."""
  config = quickstart.get_config()
  config.model.path = 'runs/gym/start/model'
  config.data.train = config.data.eval = TASK
  config.data.max_prompt_tokens = 64
  config.train.steps = 60
  return config
