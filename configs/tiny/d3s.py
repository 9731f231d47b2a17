"""D3S: half of the responses, then half of their tokens, then all.

The shares are ours, the paper does not state them.

  lrm train --config=configs/tiny/d3s.py --workdir=runs/d3s
"""

from configs import credits
from configs.tiny import setting


def get_config():
  return setting.tiny(
    credits.d3s(cap=256, rollouts=(0.5, 1.0), tokens=(0.5, 1.0), steps=50)
  )
