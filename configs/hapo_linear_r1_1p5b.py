"""HAPO (2505.11225) with its linear length reward.

lrm train --config=configs/hapo_linear_r1_1p5b.py \
    --workdir=runs/hapo_linear_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.hapo_linear(cap=32768),  # released script
    problems=8,  # released script: 16 responses on 4 devices
    samples=2,  # released script
    mini_batches=1,  # released script
    room=32768,  # the cap
    learning_rate=1e-6,  # from memory, unverified
    steps=1250,  # released script: 5 epochs
    temperature=0.7,  # released script
  )
  config.data.train_problems = 2000  # released script
  return config
