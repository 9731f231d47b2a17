"""Every problem alike: the control.

lrm train --config=configs/curricula/uniform.py --workdir=runs/curricula_uniform
"""

from configs.curricula import setting


def get_config():
  return setting.choosing()
