"""HAPO with its linear length reward.

lrm train --config=configs/tiny/hapo_linear.py --workdir=runs/hapo_linear
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(efficient.hapo_linear(cap=256))
  config.data.train_problems = 256  # eight steps an epoch
  return config
