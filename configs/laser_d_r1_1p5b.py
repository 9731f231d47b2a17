"""Laser-D (2505.15612): target lengths follow difficulty and progress.

lrm train --config=configs/laser_d_r1_1p5b.py --workdir=runs/laser_d_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.laser_d(
      cap=16384,  # released script
      lower=4096,  # released script
      upper=16384,  # released script
      step=1024,  # released script
    ),
    problems=128,  # released script
    samples=8,  # released script
    mini_batches=2,  # released script: 64 problems each
    room=16384,  # the cap
    learning_rate=1e-6,  # released script
    steps=1560,  # released script: 5 epochs of 40k problems
    temperature=0.6,  # released script
  )
  config.train.monitor_every = 20  # released script
  config.train.monitor_problems = 500  # released script
  return config
