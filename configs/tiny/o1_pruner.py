"""O1-Pruner's weights, on policy.

lrm train --config=configs/tiny/o1_pruner.py --workdir=runs/o1_pruner
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.o1_pruner(cap=256))
