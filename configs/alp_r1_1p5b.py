"""ALP (2506.05256): a penalty in proportion to the pass rate.

  lrm train --config=configs/alp_r1_1p5b.py --workdir=runs/alp_r1_1p5b

The paper: DeepScaleR-1.5B-Preview; here its hyperparameters on R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.alp(
      cap=16384,  # third party
      beta=1e-7,  # third party, its unit unverified
    ),
    problems=512,  # third party
    samples=8,  # not stated; ours
    mini_batches=4,  # not stated; ours
    room=16384,  # the cap
    learning_rate=1e-6,  # not stated; ours
    steps=100,  # third party
  )
