"""An entropy bonus of 0.01 a nat beside GRPO.

lrm train --config=configs/stability/entropy.py --workdir=runs/stability_entropy
"""

from configs.stability import setting


def get_config():
  config = setting.off_policy()
  with config.unlocked():
    config.objective.regularizers.entropy = dict(coefficient=0.01)
  return config
