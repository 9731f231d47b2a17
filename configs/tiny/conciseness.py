"""The conciseness reward; how well the trace compresses is its score.

  lrm train --config=configs/tiny/conciseness.py --workdir=runs/conciseness

The weight and its schedule are ours: the paper gives none.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.conciseness(cap=256, alpha=0.5, anneal_from=1.0, anneal_steps=30)
  )
