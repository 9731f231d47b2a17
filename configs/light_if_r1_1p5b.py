"""TEA-RL of Light-IF (2508.03178), first stage: entropy by covariance.

  lrm train --config=configs/light_if_r1_1p5b.py --workdir=runs/light_if_r1_1p5b

The paper: instructions with constraints, graded by rules, after a stage of
supervised training (Entropy-SFT, not here); here its hyperparameters on
verified answers. A second stage has 16384 tokens.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.light_if(cap=8192),  # released script
    problems=128,  # released script
    samples=8,  # released script
    mini_batches=4,  # released script: 32 problems each
    room=8192,  # the cap
    learning_rate=5e-6,  # released script
    steps=500,  # not stated; ours
    temperature=1.0,  # released script
    prompt=1024,  # released script
  )
