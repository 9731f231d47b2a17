"""ShorterBetter (2504.21370): as long as the shortest right response.

lrm train --config=configs/shorter_better_r1_1p5b.py \
    --workdir=runs/shorter_better_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.shorter_better(
      cap=6000,  # released script
      beta=1e-3,  # released script
      kl=1e-3,  # released script
    ),
    problems=128,  # released script
    samples=12,  # released script
    mini_batches=8,  # released script: 16 problems each
    room=6000,  # the cap
    learning_rate=1e-6,  # released script
    steps=315,  # released script: one epoch of 40k problems
    temperature=0.9,  # released script
    prompt=1500,  # released script
  )
