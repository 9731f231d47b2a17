"""The length reward of Kimi k1.5 (2501.12599), with GRPO.

  lrm train --config=configs/kimi_r1_1p5b.py --workdir=runs/kimi_r1_1p5b

The paper: Kimi k1.5. Of the numbers of its paper we know none.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.kimi(
      cap=8192,  # not stated; ours
      coefficient=0.4,  # Laser's code
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
