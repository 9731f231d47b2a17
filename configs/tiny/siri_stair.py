"""SIRI, stair: the cap halves and doubles again, three times.

lrm train --config=configs/tiny/siri_stair.py --workdir=runs/siri_stair
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.siri(low=80, high=160, period=12, schedule='siri_stair'), room=160
  )
