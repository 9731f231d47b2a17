"""The length reward of Kimi k1.5.

lrm train --config=configs/tiny/kimi.py --workdir=runs/kimi
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.kimi(cap=256))
