"""Cosine reward; runs of 12 repeated tokens, two derivations, cost.

  lrm train --config=configs/tiny/cosine.py --workdir=runs/cosine

The paper's 40 tokens are a sentence or two.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.cosine(cap=256, n=12, margin=1))
