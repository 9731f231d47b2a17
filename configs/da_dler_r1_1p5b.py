"""DA-DLER (2510.15110): goes on from DLER, with a tighter cap if easy.

  lrm train --config=configs/da_dler_r1_1p5b.py --workdir=runs/da_dler_r1_1p5b

Run `dler_r1_1p5b.py` first.
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.da_dler(
      cap=4000,  # paper
      easy_cap=2000,  # paper
    ),
    problems=512,  # as in DLER
    samples=16,  # as in DLER
    mini_batches=8,  # as in DLER
    room=4000,  # the cap
    learning_rate=1e-6,  # as in DLER
    steps=150,  # paper
    temperature=1.0,  # as in DLER
    rounds=10,  # not stated; ours
  )
  config.model.path = 'runs/dler_r1_1p5b/model'
  config.optimizer.weight_decay = 0.01  # as in DLER
  config.optimizer.clip_norm = 1.0  # as in DLER
  return config
