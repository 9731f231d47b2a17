"""GRPO without KL: what collapses.

lrm train --config=configs/stability/grpo.py --workdir=runs/stability_grpo
"""

from configs.stability import setting


def get_config():
  return setting.off_policy()
