"""PCL: one of four problems looked at, the closest to half solved.

lrm train --config=configs/curricula/pcl.py --workdir=runs/curricula_pcl
"""

from configs.curricula import setting


def get_config():
  return setting.choosing(
    curriculum=dict(name='pcl', factor=4, learning_rate=0.05)
  )
