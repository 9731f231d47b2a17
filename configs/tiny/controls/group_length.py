"""GRPO-lambda without its lambda: the length reward for every group.

lrm train --config=configs/tiny/controls/group_length.py \
  --workdir=runs/group_length
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.grpo_lambda(cap=256, fraction=1.0))
