"""Dynamic sampling: problems drawn until the batch is full of mixed groups.

lrm train --config=configs/curricula/dynamic.py --workdir=runs/curricula_dynamic
"""

from configs.curricula import setting


def get_config():
  return setting.choosing(
    rounds=3, selection=dict(name='dynamic_sampling_accuracy')
  )
