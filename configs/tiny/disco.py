"""DisCO, log-L.

lrm train --config=configs/tiny/disco.py --workdir=runs/disco
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.disco(cap=256))
