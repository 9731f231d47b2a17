"""A level schedule: levels 2 and 3 first, all from step 20 on.

lrm train --config=configs/curricula/levels.py --workdir=runs/curricula_levels
"""

from configs.curricula import setting


def get_config():
  return setting.choosing(
    curriculum=dict(name='levels', first=3.0, last=8.0, steps=20)
  )
