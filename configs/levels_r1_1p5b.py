"""GRPO with a level schedule: easy problems first.

  lrm train --config=configs/levels_r1_1p5b.py --workdir=runs/levels_r1_1p5b

No paper: the simplest schedule, on levels 1 to 5 as MATH states them; beside it
the setting is that of `grpo_r1_1p5b.py`. The data has to have `level`.
"""

from configs import objectives, r1


def get_config():
  config = r1.r1(
    objectives.levels(
      cap=8192,  # ours
      first=1.0,  # ours: the easiest of MATH
      last=5.0,  # ours: its hardest
      steps=250,  # ours: half of the run
    ),
    problems=16,  # from memory, unverified: GRPO
    samples=64,  # from memory, unverified: GRPO
    mini_batches=1,  # from memory, unverified: GRPO
    room=8192,  # the cap
    learning_rate=1e-6,  # from memory, unverified: GRPO
    steps=500,  # ours
  )
  config.data.train = 'math.jsonl'
  return config
