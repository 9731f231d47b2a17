"""REINFORCE++ (2501.03262): whitened returns.

  lrm train --config=configs/reinforce_pp_r1_1p5b.py \
    --workdir=runs/reinforce_pp_r1_1p5b

Of the numbers of its paper we know none.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.reinforce_pp(cap=8192),  # not stated; ours
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=4,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
