"""HAPO: a third of a thousand problems, so that they come back.

lrm train --config=configs/tiny/hapo.py --workdir=runs/hapo
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(efficient.hapo(cap=256))
  config.data.train_problems = 320  # ten steps an epoch
  return config
