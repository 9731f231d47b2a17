"""RLOO with a sigmoid of the length, alpha in the middle of the paper's.

lrm train --config=configs/tiny/arora_zanette.py --workdir=runs/arora_zanette
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.arora_zanette(cap=256, alpha=0.2))
