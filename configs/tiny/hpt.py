"""HPT: groups with two right of eight at most learn the shortest trace.

lrm train --config=configs/tiny/hpt.py --workdir=runs/hpt
"""

from configs import credits
from configs.tiny import setting


def get_config():
  config = setting.tiny(credits.hpt(cap=256, solved=2, coefficient=1.0))
  config.data.demonstrations = 'chain_arithmetic'
  return config
