"""GVM: 8 probes a problem, then 8 responses on average and 16 at most.

lrm train --config=configs/tiny/gvm.py --workdir=runs/gvm
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  config = setting.tiny(objectives.gvm(cap=256))
  config.train.samples = 16  # the room of a problem
  return config
