"""Laser-DE (2505.15612): Laser-D, and wrong answers may explore.

lrm train --config=configs/laser_de_r1_1p5b.py --workdir=runs/laser_de_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.laser_de(
      cap=16384,  # released script
      lower=4096,  # released script
      upper=16384,  # released script
      step=1024,  # released script
      ngram=40,  # ours, a reconstruction
      threshold=0.2,  # ours, a reconstruction
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
