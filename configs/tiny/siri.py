"""SIRI, cosine: the cap halves and doubles again, three times.

lrm train --config=configs/tiny/siri.py --workdir=runs/siri
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.siri(low=80, high=160, period=12), room=160)
