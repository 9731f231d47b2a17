"""RMT: prompts ask for 96 tokens of thinking at first, for 28 at the end.

  lrm train --config=configs/tiny/rmt.py --workdir=runs/rmt

A cap is twice as many, and 48 tokens for an answer.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.rmt(initial=96, gamma=0.3, steps=40, room=48, weight=0.5),
    room=240,
  )
  config.data.instruction = 'n={target}'
  config.eval.target = 28
  return config
