"""Plain GRPO: the control. No length pressure, a cap that hardly cuts.

lrm train --config=configs/tiny/grpo.py --workdir=runs/grpo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.grpo(cap=256))
