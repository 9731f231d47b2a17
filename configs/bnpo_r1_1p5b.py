"""BNPO (2506.02864): a Beta law normalizes.

  lrm train --config=configs/bnpo_r1_1p5b.py --workdir=runs/bnpo_r1_1p5b

The paper: Qwen2.5-Math-7B on MATH; here its hyperparameters on R1-1.5B.
"""

from configs import objectives, r1


def get_config():
  config = r1.r1(
    objectives.bnpo(cap=3072),  # paper
    problems=32,  # paper
    samples=16,  # paper
    mini_batches=1,  # paper
    room=3072,  # the cap
    learning_rate=1e-6,  # paper
    steps=1170,  # ours: 5 epochs (paper) of 7500 problems
    temperature=1.0,  # paper
  )
  config.optimizer.warmup_steps = 10  # paper
  return config
