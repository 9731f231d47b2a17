"""Frugal reasoning without its curriculum: every level equally often.

lrm train --config=configs/tiny/controls/frugal_uniform.py \
  --workdir=runs/frugal_uniform
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  objective = efficient.frugal(cap=256, lower=0.75, upper=1.0, factor=1.0)
  objective.curriculum = dict(name='uniform')
  return setting.tiny(objective)
