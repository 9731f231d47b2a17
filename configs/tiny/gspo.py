"""GSPO: one ratio per sequence. One update per step never clips it.

lrm train --config=configs/tiny/gspo.py --workdir=runs/gspo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.gspo(cap=256))
