"""ALP: the penalty at the cap is that of the paper.

lrm train --config=configs/tiny/alp.py --workdir=runs/alp
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.alp(cap=256, beta=6.4e-6))
