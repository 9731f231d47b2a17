"""TEA-RL of Light-IF: an entropy bonus where the entropy is about to fall.

  lrm train --config=configs/tiny/light_if.py --workdir=runs/light_if

The weights of a response sum to 10 in the paper, over thousands of tokens;
here to 0.3, over a hundred: as much for each.
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  config = setting.tiny(objectives.light_if(cap=256, scale=0.3, most=0.15))
  config.train.mini_batches = 4
  return config
