"""GTPO, as in its code: spread over the tokens that are shared.

lrm train --config=configs/tiny/gtpo_released.py --workdir=runs/gtpo_released
"""

from configs import credits
from configs.tiny import setting


def get_config():
  return setting.tiny(credits.gtpo_released(cap=256))
