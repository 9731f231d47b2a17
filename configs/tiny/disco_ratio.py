"""DisCO, L-ratio.

lrm train --config=configs/tiny/disco_ratio.py --workdir=runs/disco_ratio
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.disco_ratio(cap=256))
