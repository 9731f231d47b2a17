"""Truncated importance sampling: token by token.

  lrm train --config=configs/tiny/tis.py --workdir=runs/tis

Every batch is sampled while the one before is trained, so it is a step old.
"""

from configs import credits
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    credits.corrected(cap=256, correction=dict(name='token_truncated', cap=2.0))
  )
  config.train.batches_ahead = 1
  config.train.old_logp = 'trainer'
  config.sentinels.every = 20
  return config
