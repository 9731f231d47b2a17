"""TIS, one step off policy: token by token.

  lrm train --config=configs/tis_r1_1p5b.py --workdir=runs/tis_r1_1p5b

A batch is sampled while the one before is trained. On a host of eight devices
train.sampler_devices=4 gives half of them to the sampler.
"""

from configs import credits, r1


def get_config():
  config = r1.r1(
    credits.corrected(
      cap=8192,  # not stated; ours
      correction=dict(
        name='token_truncated',
        cap=2.0,  # the default of verl and TRL
      ),
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=4,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
  config.train.batches_ahead = 1  # not stated; ours
  config.train.old_logp = 'trainer'
  return config
