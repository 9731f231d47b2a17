"""DAPO (2503.14476).

  lrm train --config=configs/dapo_r1_1p5b.py --workdir=runs/dapo_r1_1p5b

The paper: Qwen2.5-32B; here its hyperparameters on R1-1.5B.
"""

from configs import objectives, r1


def get_config():
  config = r1.r1(
    objectives.dapo(
      cap=20480,  # released script
      buffer=4096,  # released script
    ),
    problems=512,  # released script
    samples=16,  # released script
    mini_batches=16,  # released script: 32 problems each
    room=20480,  # the cap
    learning_rate=1e-6,  # released script
    steps=500,  # not stated; ours
    temperature=1.0,  # released script
    rounds=30,  # released script: 10 of 1536 problems
    prompt=2048,  # released script
  )
  config.optimizer.warmup_steps = 160  # released script: 10 steps of 16
  config.optimizer.weight_decay = 0.1  # released script
  return config
