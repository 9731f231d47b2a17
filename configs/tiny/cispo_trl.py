"""CISPO with one absolute bound, as in TRL.

lrm train --config=configs/tiny/cispo_trl.py --workdir=runs/cispo_trl
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.cispo_trl(cap=256))
