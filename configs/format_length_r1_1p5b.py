"""Format and length (2505.19439): no gold answer is looked at.

  lrm train --config=configs/format_length_r1_1p5b.py \
    --workdir=runs/format_length_r1_1p5b

The paper: Qwen2.5-Math-7B; here its hyperparameters on R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.format_length(cap=3072),  # paper
    problems=128,  # paper
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=3072,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=100,  # paper
  )
