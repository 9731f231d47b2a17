"""DOT (2601.03969), 8K: outliers of solved groups are cut.

lrm train --config=configs/dot_r1_1p5b.py --workdir=runs/dot_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.dot(
      cap=8192,  # released script
      deviations=3.0,  # released script
      margin=32,  # released script: tokens
    ),
    problems=128,  # released script
    samples=32,  # released script
    mini_batches=4,  # released script: 32 problems each
    room=8192,  # the cap
    learning_rate=1e-6,  # released script
    steps=500,  # not stated; ours
    temperature=1.0,  # released script
    prompt=4096,  # released script
    eval_samples=32,  # released script
    eval_room=32768,  # paper
  )
