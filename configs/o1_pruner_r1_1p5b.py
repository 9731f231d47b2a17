"""O1-Pruner's weights (2501.12570), on responses of the policy itself.

  lrm train --config=configs/o1_pruner_r1_1p5b.py \
    --workdir=runs/o1_pruner_r1_1p5b

The paper: Marco-o1-7B and QwQ-32B, off policy; here its hyperparameters on
R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.o1_pruner(cap=8192),  # not stated; ours
    problems=64,  # not stated; ours
    samples=16,  # paper: 12 to 16
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=2e-6,  # paper
    steps=500,  # not stated; ours
  )
