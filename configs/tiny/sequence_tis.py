"""Truncated importance sampling: by the product over a response.

  lrm train --config=configs/tiny/sequence_tis.py --workdir=runs/sequence_tis

Every batch is sampled while the one before is trained, so it is a step old.
"""

from configs import credits
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    credits.corrected(
      cap=256, correction=dict(name='sequence_truncated', cap=2.0)
    )
  )
  config.train.batches_ahead = 1
  config.train.old_logp = 'trainer'
  config.sentinels.every = 20
  return config
