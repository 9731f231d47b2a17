"""DAPO: the buffer is a fifth of the cap, as in the paper.

lrm train --config=configs/tiny/dapo.py --workdir=runs/dapo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.dapo(cap=256, buffer=51), rounds=2)
