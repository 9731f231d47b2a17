"""GTPO (2508.03772), as in its text: no KL, no deviation, on policy.

  lrm train --config=configs/gtpo_r1_1p5b.py --workdir=runs/gtpo_r1_1p5b

The paper trains adapters on 4-bit Qwen2.5-3B and Llama-8B; here all of R1-1.5B.
An initial policy above ln 2 nats switches the filter off: entropy_limit=inf.
"""

import math

from configs import credits, r1


def get_config():
  config = r1.r1(
    credits.gtpo(
      cap=4096,  # not stated; ours
      entropy_limit=math.log(2),  # paper
      reward=20.0,  # paper: 10 for the answer, 10 for the format
    ),
    problems=32,  # not stated; ours
    samples=8,  # paper; 12 in others of its runs
    mini_batches=1,  # paper: one update a batch
    room=4096,  # the cap
    learning_rate=1e-6,  # paper
    steps=500,  # not stated; ours
  )
  config.optimizer.clip_norm = 0.1  # paper
  return config
