"""Laser-D: target lengths from a monitor of 32 problems.

lrm train --config=configs/tiny/laser_d.py --workdir=runs/laser_d
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.laser_d(cap=256, lower=32, upper=256, step=16)
  )
  config.train.monitor_every = 8
  config.train.monitor_problems = 32
  return config
