"""DUMP by level, with the numbers of its code.

lrm train --config=configs/curricula/dump.py --workdir=runs/curricula_dump
"""

from configs.curricula import setting


def get_config():
  return setting.choosing(
    curriculum=dict(name='dump', by='level', window=300, temperature=0.1)
  )
