"""D3S (2509.22115): fewer responses and tokens, those that teach most.

  lrm train --config=configs/d3s_r1_1p5b.py --workdir=runs/d3s_r1_1p5b

The paper: Qwen2.5-Math-7B. Its four shares are not known.
"""

from configs import credits, r1


def get_config():
  return r1.r1(
    credits.d3s(
      cap=4096,  # not stated; ours
      rollouts=(0.25, 0.75),  # not stated; ours
      tokens=(0.2, 0.8),  # not stated; ours
      steps=500,  # not stated; ours: all of the run
    ),
    problems=128,  # not stated; ours
    samples=8,  # not stated; ours
    mini_batches=1,  # not stated; ours
    room=4096,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
