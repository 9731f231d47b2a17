"""The control of GRPO-lambda: its length reward for every group.

  lrm train --config=configs/group_length_r1_1p5b.py \
    --workdir=runs/group_length_r1_1p5b

As `grpo_lambda_r1_1p5b.py` otherwise.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.group_length(
      cap=8192,  # not stated; ours
      alpha=0.6,  # third party, unverified
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
