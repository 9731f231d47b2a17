"""HAPO: 256 problems, so that they come back.

lrm train --config=configs/tiny/hapo.py --workdir=runs/hapo
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(efficient.hapo(cap=256))
  config.data.train_problems = 256  # eight steps an epoch
  return config
