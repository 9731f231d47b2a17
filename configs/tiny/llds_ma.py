"""GRPO with LLDS-MA, two updates a step as in the paper: else it does nothing.

  lrm train --config=configs/tiny/llds_ma.py --workdir=runs/llds_ma

The tolerance is what the run allows as rounding.
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  config = setting.tiny(objectives.llds_ma(cap=256, tolerance=1e-3))
  config.train.mini_batches = 2
  return config
