"""GRPO-lambda: the length reward for the best fifth of the groups.

lrm train --config=configs/tiny/grpo_lambda.py --workdir=runs/grpo_lambda
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.grpo_lambda(cap=256))
