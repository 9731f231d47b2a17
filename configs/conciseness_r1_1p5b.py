"""The conciseness reward (2511.09158), with a scorer that is no model.

  lrm train --config=configs/conciseness_r1_1p5b.py \
    --workdir=runs/conciseness_r1_1p5b

The paper: Qwen2.5-7B. Of the numbers of its paper we know none.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.conciseness(
      cap=8192,  # not stated; ours
      alpha=0.5,  # not stated; ours
      anneal_from=1.0,  # not stated; ours
      anneal_steps=250,  # not stated; ours
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
