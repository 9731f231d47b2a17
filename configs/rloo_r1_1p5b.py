"""RLOO (2402.14740): the others of the group are the baseline.

  lrm train --config=configs/rloo_r1_1p5b.py --workdir=runs/rloo_r1_1p5b

Of the numbers of its paper we know none.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.rloo(cap=8192),  # not stated; ours
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
