"""BNPO: a Beta law normalizes.

lrm train --config=configs/tiny/bnpo.py --workdir=runs/bnpo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.bnpo(cap=256))
