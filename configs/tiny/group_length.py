"""The control of GRPO-lambda: its length reward for every group.

lrm train --config=configs/tiny/group_length.py --workdir=runs/group_length
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.group_length(cap=256, alpha=0.6))
