"""TLDR (2505.07961), reconstructed: a word in the prompt sets the penalty.

  lrm train --config=configs/tldr_r1_1p5b.py --workdir=runs/tldr_r1_1p5b

Of the numbers of its paper we know none. Evaluated at "short".
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.tldr(
      cap=8192,  # not stated; ours
      short=0.6,  # not stated; ours
      medium=0.3,  # not stated; ours
      long=0.0,  # not stated; ours
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
  config.data.instruction += ' Keep your thinking {level}.'  # ours
  return config
