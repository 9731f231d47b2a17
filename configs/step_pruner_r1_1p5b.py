"""Step Pruner (2510.03805), reconstructed: fewer steps if right.

  lrm train --config=configs/step_pruner_r1_1p5b.py \
    --workdir=runs/step_pruner_r1_1p5b

Of the numbers of its paper we know none.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.step_pruner(
      cap=8192,  # not stated; ours
      alpha=0.5,  # not stated; ours
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
