"""Kimi's length penalty, whitened over the batch and not within the group.

lrm train --config=configs/tiny/controls/kimi_batch_whiten.py \
  --workdir=runs/kimi_batch_whiten
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  objective = efficient.kimi(cap=256)
  objective.advantage = dict(name='batch_token_whiten', eps=1e-8)
  return setting.tiny(objective)
