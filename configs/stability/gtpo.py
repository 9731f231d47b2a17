"""GTPO in its text's form, with the reward and the updates of the others.

lrm train --config=configs/stability/gtpo.py --workdir=runs/stability_gtpo
"""

import math

from configs import credits
from configs.stability import setting


def get_config():
  return setting.off_policy(
    credits.gtpo(cap=setting.CAP, entropy_limit=math.log(2), reward=1.0)
  )
