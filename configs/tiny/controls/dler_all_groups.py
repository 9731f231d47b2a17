"""DLER without dynamic sampling: every group trains, one sampling round.

lrm train --config=configs/tiny/controls/dler_all_groups.py \
  --workdir=runs/dler_all_groups
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  objective = efficient.dler(cap=96)
  objective.selection.name = 'all_groups'
  return setting.tiny(objective, room=96)
