"""A-DLP (2505.18298): the penalty grows while accuracy exceeds a mark.

  lrm train --config=configs/adaptive_penalty_r1_1p5b.py \
    --workdir=runs/adaptive_penalty_r1_1p5b

The paper: DeepScaleR-1.5B-Preview; here its hyperparameters on R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.adaptive_penalty(
      cap=8192,  # paper
      initial=1e-3,  # paper
      rate=1e-3,  # paper
      reference=0.62,  # paper, for its own model
    ),
    problems=64,  # paper
    samples=4,  # paper
    mini_batches=1,  # paper
    room=8192,  # the cap
    learning_rate=1e-6,  # paper
    steps=500,  # not stated; ours
    temperature=0.6,  # paper
  )
