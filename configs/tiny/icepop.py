"""Tokens on which the policies differ are left out: beyond a factor.

  lrm train --config=configs/tiny/icepop.py --workdir=runs/icepop

Every batch is sampled while the one before is trained, so it is a step old.
"""

from configs import credits
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    credits.corrected(
      cap=256, correction=dict(name='token_masked', low=0.5, high=5.0)
    )
  )
  config.train.batches_ahead = 1
  config.train.old_logp = 'trainer'
  config.sentinels.every = 20
  return config
