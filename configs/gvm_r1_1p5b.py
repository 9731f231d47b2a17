"""GVM (2505.02391): more responses where they lower the gradient's variance.

  lrm train --config=configs/gvm_r1_1p5b.py --workdir=runs/gvm_r1_1p5b

The paper: Qwen2.5-Math-1.5B on NuminaMath, GVM-GRPO and RAFT++; here the former
on R1-1.5B. There 1024 problems are probed at a time, and trained on in four
mini-batches, as here.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.gvm(
      cap=3072,  # released code
    ),
    problems=1024,  # released code
    samples=32,  # ours: the room of a problem, four times the mean
    mini_batches=4,  # released code: 256 problems each
    room=3072,  # the cap
    learning_rate=1e-6,  # released code
    steps=10,  # released code: iterations
  )
