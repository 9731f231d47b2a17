"""COPO (2508.04138): a group that agrees is compared with other groups.

  lrm train --config=configs/copo_r1_1p5b.py --workdir=runs/copo_r1_1p5b

The paper: Qwen2.5-3B and 7B on a tenth of DAPO-Math-17k.
"""

from configs import credits, r1


def get_config():
  return r1.r1(
    credits.copo(
      cap=2048,  # released script
      sharpness=20.0,  # released script; 5 in another
      middle=0.5,  # released script; 1 in another
      kl=0.001,  # released script
    ),
    problems=512,  # released script
    samples=8,  # released script; 6 in the paper
    mini_batches=16,  # released script: 32 problems each
    room=2048,  # the cap
    learning_rate=1e-6,  # released script
    steps=70,  # paper: 60 to 70
  )
