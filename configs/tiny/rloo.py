"""RLOO: the others of the group are the baseline.

lrm train --config=configs/tiny/rloo.py --workdir=runs/rloo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.rloo(cap=256))
