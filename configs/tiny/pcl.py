"""PCL: four times as many problems looked at; the learning rate is ours.

lrm train --config=configs/tiny/pcl.py --workdir=runs/pcl
"""

from configs import objectives
from configs.tiny import setting


def get_config():
  return setting.tiny(objectives.pcl(cap=256, learning_rate=0.05))
