"""GRPO with one update a batch at the same learning rate: the control.

lrm train --config=configs/stability/on_policy.py \
  --workdir=runs/stability_on_policy
"""

from configs.stability import setting


def get_config():
  config = setting.off_policy()
  config.train.mini_batches = 1
  config.train.passes = 1
  return config
