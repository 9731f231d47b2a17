"""PCL (2510.01135): problems that are solved about half of the time.

  lrm train --config=configs/pcl_r1_1p5b.py --workdir=runs/pcl_r1_1p5b

The paper: Qwen3-8B-Base with a value model of its own; here its hyperparameters
on R1-1.5B, and a head on the policy's hidden state for the value model.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.pcl(
      cap=8192,  # not stated; ours
      learning_rate=0.05,  # not stated; ours, as on the tiny LRM
    ),
    problems=512,  # paper
    samples=16,  # paper
    mini_batches=1,  # paper: strictly on-policy
    room=8192,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=500,  # not stated; ours
  )
