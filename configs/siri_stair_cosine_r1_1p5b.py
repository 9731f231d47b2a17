"""SIRI (2509.25176), stair-cosine: the cap halves and doubles, three times.

lrm train --config=configs/siri_stair_cosine_r1_1p5b.py \
    --workdir=runs/siri_stair_cosine_r1_1p5b
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.siri(
      low=8192,  # paper
      high=16384,  # paper
      period=640,  # paper, of the cosine
      schedule='siri_stair_cosine',
    ),
    problems=128,  # paper
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=16384,  # the largest cap
    learning_rate=1e-6,  # paper
    steps=1920,  # paper: three cycles
    temperature=1.0,  # paper
    eval_samples=64,  # paper
    eval_room=16384,  # paper
  )
