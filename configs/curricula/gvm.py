"""GVM with four probes and eight responses a problem on average.

lrm train --config=configs/curricula/gvm.py --workdir=runs/curricula_gvm
"""

from configs.curricula import setting


def get_config():
  config = setting.choosing(curriculum=dict(name='gvm', probes=4, samples=8))
  config.train.samples = 16  # the room of a problem
  return config
