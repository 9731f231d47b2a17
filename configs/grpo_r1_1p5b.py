"""GRPO (2402.03300): the control, no length pressure.

  lrm train --config=configs/grpo_r1_1p5b.py --workdir=runs/grpo_r1_1p5b

The paper: DeepSeekMath 7B; here its hyperparameters on R1-1.5B.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.grpo(cap=8192),  # ours; 1024, from memory, would cut R1 off
    problems=16,  # from memory, unverified: 1024 responses
    samples=64,  # from memory, unverified
    mini_batches=1,  # from memory, unverified
    room=8192,  # the cap
    learning_rate=1e-6,  # from memory, unverified
    steps=500,  # not stated; ours
  )
