"""Dr. GRPO: GRPO without its two normalizations.

lrm train --config=configs/tiny/dr_grpo.py --workdir=runs/dr_grpo
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.dr_grpo(cap=256))
