"""GRPO with DAPO's higher upper clip, 0.28.

lrm train --config=configs/stability/clip_higher.py \
  --workdir=runs/stability_clip_higher
"""

from configs.stability import setting


def get_config():
  config = setting.off_policy()
  config.objective.loss.high = 0.28
  return config
