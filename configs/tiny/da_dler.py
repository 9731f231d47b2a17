"""DA-DLER: half the cap where a group is right more often than not.

lrm train --config=configs/tiny/da_dler.py --workdir=runs/da_dler
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.da_dler(cap=96, easy_cap=48), room=96, rounds=2)
