"""REINFORCE++-baseline: DLER without truncation and selection.

lrm train --config=configs/tiny/reinforce_pp_baseline.py \
    --workdir=runs/reinforce_pp_baseline
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.reinforce_pp_baseline(cap=256))
