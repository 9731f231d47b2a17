"""SIRI, stair-cosine: the cap halves and doubles again, three times.

lrm train --config=configs/tiny/siri_stair_cosine.py \
    --workdir=runs/siri_stair_cosine
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.siri(low=80, high=160, period=12, schedule='siri_stair_cosine'),
    room=160,
  )
