"""GSPO (2507.18071): one ratio per sequence.

  lrm train --config=configs/gspo_r1_1p5b.py --workdir=runs/gspo_r1_1p5b

The paper: Qwen3-30B-A3B (from memory, unverified); the clip range is its own
(third party), and so are the four updates that make it matter.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.gspo(cap=8192),  # not stated; ours
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=4,  # third party
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
