"""TLDR, reconstructed: one word in the prompt sets the penalty.

  lrm train --config=configs/tiny/tldr.py --workdir=runs/tldr

The start has never seen that word. Evaluated at "short".
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.tldr(cap=256, short=0.6, medium=0.3, long=0.0)
  )
  config.data.instruction = '{level}'
  return config
