"""GRPO with its paper's KL term, 0.04.

lrm train --config=configs/stability/kl.py --workdir=runs/stability_kl
"""

from configs import objectives
from configs.stability import setting


def get_config():
  config = setting.off_policy()
  with config.unlocked():
    config.objective.regularizers.update(objectives.k3(0.04))
  return config
