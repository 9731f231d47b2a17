"""GRPO with a level schedule: two operations first, eight after 60 steps.

lrm train --config=configs/tiny/levels.py --workdir=runs/levels
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.levels(cap=256, first=2.0, last=8.0, steps=60))
