"""Frugal reasoning (2511.01937), stage 1: more easy problems.

  lrm train --config=configs/frugal_r1_1p5b.py --workdir=runs/frugal_r1_1p5b

The paper: Qwen3-4B-Thinking-2507; here its hyperparameters on R1-1.5B. Its pass
rates are over 16 samples of the model to be trained.
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.frugal(
      cap=16384,  # paper
      lower=0.75,  # not stated; ours
      upper=1.0,  # not stated; ours
      factor=3.0,  # not stated; ours
    ),
    problems=128,  # paper
    samples=16,  # paper
    mini_batches=1,  # not stated; ours
    room=16384,  # the cap
    learning_rate=1e-6,  # paper
    steps=1050,  # paper
  )
  config.data.pass_rates = 'pass_rates.jsonl'
  config.optimizer.warmup_steps = 52  # paper: 5 %
  return config
