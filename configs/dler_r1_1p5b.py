"""DLER (2510.15110): truncation, and the recipe that makes it work.

lrm train --config=configs/dler_r1_1p5b.py --workdir=runs/dler_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.dler(cap=4000),  # paper
    problems=512,  # paper
    samples=16,  # paper
    mini_batches=8,  # paper: 64 problems each
    room=4000,  # the cap
    learning_rate=1e-6,  # paper
    steps=450,  # paper, of the 7B; ours for this model
    temperature=1.0,  # paper
    rounds=10,  # not stated; ours
  )
  config.optimizer.weight_decay = 0.01  # paper
  config.optimizer.clip_norm = 1.0  # paper
  return config
