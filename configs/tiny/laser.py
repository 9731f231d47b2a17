"""Laser: a bonus within 64 tokens.

lrm train --config=configs/tiny/laser.py --workdir=runs/laser
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.laser(cap=256, target_length=64))
