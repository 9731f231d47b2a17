"""A-DLP: penalty times length as in the paper, 3 for a usual response.

  lrm train --config=configs/tiny/adaptive_penalty.py \
    --workdir=runs/adaptive_penalty

The mark is just below the accuracy of the start.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.adaptive_penalty(
      cap=256, initial=0.025, rate=0.025, reference=0.75
    )
  )
