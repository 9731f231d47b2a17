"""Stratified GRPO (2510.06214), reconstructed: strata by paragraphs.

  lrm train --config=configs/stratified_r1_1p5b.py \
    --workdir=runs/stratified_r1_1p5b

The paper: search agents, strata are numbers of search calls. One turn has
none, so here they are paragraphs of the thinking, ten wide.
"""

from configs import credits, r1


def get_config():
  return r1.r1(
    credits.stratified(
      cap=8192,  # not stated; ours
      separator=r'\n\n',  # not stated; ours
      width=10.0,  # not stated; ours
      share=0.8,  # not stated; ours
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
