"""LC-R1: thinking ends where the answer first stands as a result.

lrm train --config=configs/tiny/lc_r1.py --workdir=runs/lc_r1
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.lc_r1(cap=256, separator='(?<![,:]) '))
