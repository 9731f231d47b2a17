"""Laser (2505.15612): a bonus within one target length.

lrm train --config=configs/laser_r1_1p5b.py --workdir=runs/laser_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.laser(
      cap=16384,  # released script
      target_length=4096,  # released script: or 2048, 8192
    ),
    problems=128,  # released script
    samples=8,  # released script
    mini_batches=2,  # released script: 64 problems each
    room=16384,  # the cap
    learning_rate=1e-6,  # released script
    steps=1560,  # released script: 5 epochs of 40k problems
    temperature=0.6,  # released script
  )
