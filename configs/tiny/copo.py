"""COPO: groups whose answers agree are compared with other groups.

lrm train --config=configs/tiny/copo.py --workdir=runs/copo
"""

from configs import credits
from configs.tiny import setting


def get_config():
  return setting.tiny(credits.copo(cap=256, sharpness=5.0, middle=1.0))
