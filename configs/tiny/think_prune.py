"""ThinkPrune: three caps, each stated in the prompt.

lrm train --config=configs/tiny/think_prune.py --workdir=runs/think_prune
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.think_prune(caps=(128, 96, 64), lengths=(12, 12, 12)), room=128
  )
  config.data.instruction = 'n={target}'
  config.eval.target = 64
  return config
