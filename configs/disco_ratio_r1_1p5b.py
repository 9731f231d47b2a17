"""DisCO (2505.12366), L-ratio.

lrm train --config=configs/disco_ratio_r1_1p5b.py \
    --workdir=runs/disco_ratio_r1_1p5b
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.disco_ratio(cap=8192),  # paper
    problems=128,  # paper
    samples=8,  # paper
    mini_batches=4,  # paper: 32 problems each
    room=8192,  # the cap
    learning_rate=2e-6,  # paper
    steps=1002,  # not stated; of DRPO's script
    temperature=0.6,  # paper
    eval_samples=16,  # paper
    eval_room=8192,  # paper
  )
