"""DUMP (2504.09710): distributions of problems with large advantages.

  lrm train --config=configs/dump_r1_1p5b.py --workdir=runs/dump_r1_1p5b

The paper: Qwen2.5-7B-Instruct-1M on Knights and Knaves of 3 to 14 people, with
rewards for the format too; here its hyperparameters on R1-1.5B and levels as
MATH states them. The data has to have `level`.
"""

from configs import objectives, r1


def get_config():
  config = r1.r1(
    objectives.dump(cap=20480),  # released code
    problems=128,  # released code
    samples=16,  # released code
    mini_batches=4,  # released code: 32 problems each
    room=20480,  # the cap
    learning_rate=1e-6,  # released code
    steps=500,  # not stated; ours
  )
  config.data.train = 'math.jsonl'
  return config
