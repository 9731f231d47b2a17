"""GTPO (2508.03772) as its code has it: over the number of conflict tokens.

  lrm train --config=configs/gtpo_released_r1_1p5b.py \
    --workdir=runs/gtpo_released_r1_1p5b

The paper: adapters on 4-bit Qwen2.5-3B and Llama-8B; here all of R1-1.5B.
"""

from configs import credits, r1


def get_config():
  config = r1.r1(
    credits.gtpo_released(
      cap=4096,  # not stated; ours
      entropy_limit=0.7,  # released code
      reward=20.0,  # released code: 10 for the answer, 10 for the format
    ),
    problems=32,  # not stated; ours
    samples=8,  # paper
    mini_batches=1,  # paper: one update a batch
    room=4096,  # the cap
    learning_rate=1e-6,  # paper
    steps=500,  # not stated; ours
  )
  config.optimizer.clip_norm = 0.1  # paper
  return config
