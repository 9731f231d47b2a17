"""REINFORCE++: returns whitened over the tokens of the batch.

lrm train --config=configs/tiny/reinforce_pp.py --workdir=runs/reinforce_pp
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.reinforce_pp(cap=256))
