"""Cosine reward and repetition stream (2502.03373), group-relative.

  lrm train --config=configs/cosine_r1_1p5b.py --workdir=runs/cosine_r1_1p5b

The paper: Llama-3.1-8B after SFT, with PPO; here its hyperparameters on
R1-1.5B.
"""

from configs import efficient, r1


def get_config():
  return r1.r1(
    efficient.cosine(
      cap=14336,  # paper
      n=40,  # paper
      margin=16,  # paper
    ),
    problems=32,  # paper: 512 responses
    samples=16,  # paper
    mini_batches=1,  # ours; 2 PPO epochs in the paper
    room=14336,  # the cap
    learning_rate=5e-7,  # paper
    steps=500,  # not stated; ours
  )
