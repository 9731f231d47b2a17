"""DUMP: a distribution is a number of operations.

lrm train --config=configs/tiny/dump.py --workdir=runs/dump
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.dump(cap=256))
