"""GRPO-lambda (2505.18086): a length reward for the best groups.

  lrm train --config=configs/grpo_lambda_r1_1p5b.py \
    --workdir=runs/grpo_lambda_r1_1p5b

The model of the paper is not known to us.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.grpo_lambda(
      cap=8192,  # not stated; ours
      fraction=0.2,  # third party, unverified
      alpha=0.6,  # third party, unverified
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
