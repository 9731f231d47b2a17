"""DRPO (2510.04474): length decides among the right ones only.

lrm train --config=configs/drpo_r1_1p5b.py --workdir=runs/drpo_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.drpo(
      cap=8192,  # paper
      temperature=0.1,  # paper: of the length reward
    ),
    problems=128,  # paper
    samples=8,  # paper
    mini_batches=4,  # paper: 32 problems each
    room=8192,  # the cap
    learning_rate=2e-6,  # paper
    steps=1002,  # released script
    temperature=0.6,  # paper
    eval_samples=16,  # third party
  )
