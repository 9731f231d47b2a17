"""CISPO with bounds around 1, as in verl.

lrm train --config=configs/tiny/cispo.py --workdir=runs/cispo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.cispo(cap=256))
