"""DLER at the cap of the quickstart, below the mean length of the start.

lrm train --config=configs/tiny/dler.py --workdir=runs/dler
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.dler(cap=96), room=96, rounds=2)
