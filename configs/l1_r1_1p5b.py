"""L1-Exact (2503.04697): as long as the prompt asks for.

  lrm train --config=configs/l1_r1_1p5b.py --workdir=runs/l1_r1_1p5b

The paper: DeepScaleR-1.5B-Preview; here its hyperparameters on R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.l1(
      cap=4096,  # paper
      low=100,  # paper
      high=4000,  # paper
    ),
    problems=128,  # paper
    samples=16,  # paper
    mini_batches=2,  # paper: 64 problems each
    room=4096,  # the cap
    learning_rate=1e-6,  # paper
    steps=700,  # paper
    temperature=0.6,  # paper
  )
  config.data.instruction += ' Think for {target} tokens.'
  config.eval.target = 2000  # not stated; ours
  return config
