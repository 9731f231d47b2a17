"""DRPO with the paper's temperature; its constant C is the cap.

lrm train --config=configs/tiny/drpo.py --workdir=runs/drpo
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.drpo(cap=256))
