"""RLOO with a sigmoid of the length (2502.04463).

lrm train --config=configs/arora_zanette_r1_1p5b.py \
    --workdir=runs/arora_zanette_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.arora_zanette(
      cap=32000,  # paper
      alpha=0.2,  # paper: one of .05, .1, .2, .4
    ),
    problems=32,  # paper
    samples=8,  # paper
    mini_batches=2,  # paper: 128 responses each
    room=32000,  # the cap
    learning_rate=5e-6,  # paper
    steps=100,  # paper: 3200 problems
  )
