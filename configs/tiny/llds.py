"""GRPO with LLDS: two updates a step, as the paper's, or it would do nothing.

  lrm train --config=configs/tiny/llds.py --workdir=runs/llds

The tolerance is what the run allows as rounding.
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  config = setting.tiny(objectives.llds(cap=256, tolerance=1e-3))
  config.train.mini_batches = 2
  return config
