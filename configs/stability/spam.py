"""GRPO with SPAM in place of AdamW.

lrm train --config=configs/stability/spam.py --workdir=runs/stability_spam
"""

from configs.stability import setting


def get_config():
  config = setting.off_policy()
  config.optimizer.name = 'spam'
  return config
