"""LLDS-MA (2512.04220): good thinking keeps its likelihood.

  lrm train --config=configs/llds_ma_r1_1p5b.py --workdir=runs/llds_ma_r1_1p5b

The paper: search in up to three turns, Qwen2.5-3B and 7B; here its
hyperparameters on R1-1.5B, in one turn. It acts from the second mini-batch on.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.llds_ma(
      cap=8192,  # not stated; ours
      kl=0.001,  # released script
      tolerance=1e-2,  # ours, not measured: bfloat16 rounds
    ),
    problems=512,  # released script
    samples=5,  # released script
    mini_batches=2,  # released script: 256 problems each
    room=8192,  # the cap
    learning_rate=1e-6,  # released script
    steps=500,  # not stated; ours
  )
