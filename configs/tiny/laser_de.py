"""Laser-DE: Laser-D, and wrong answers may explore.

lrm train --config=configs/tiny/laser_de.py --workdir=runs/laser_de
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.laser_de(
      cap=256, lower=32, upper=256, step=16, ngram=12, threshold=0.2
    )
  )
  config.train.monitor_every = 8
  config.train.monitor_problems = 32
  return config
