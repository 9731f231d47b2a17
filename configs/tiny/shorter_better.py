"""ShorterBetter; the penalty per token is scaled with the length.

lrm train --config=configs/tiny/shorter_better.py --workdir=runs/shorter_better
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.shorter_better(cap=256, beta=0.03))
