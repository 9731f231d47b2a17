"""HPT (2509.04419): supervised where nothing is solved, reinforced elsewhere.

  lrm train --config=configs/hpt_r1_1p5b.py --workdir=runs/hpt_r1_1p5b

The paper: Qwen2.5-Math-1.5B and 7B on OpenR1-Math-46k, whose traces are the
demonstrations: a .jsonl of id and response.
"""

from configs import credits, r1


def get_config():
  config = r1.r1(
    credits.hpt(
      cap=8192,  # paper
      solved=0,  # paper, for Qwen; 2 for Llama
      coefficient=0.3,  # paper, for 1.5B; 1 for others
    ),
    problems=128,  # paper
    samples=8,  # paper
    mini_batches=2,  # paper: 64 problems each
    room=8192,  # the cap
    learning_rate=5e-6,  # paper
    steps=500,  # paper
  )
  config.data.demonstrations = 'openr1_math.jsonl'
  config.optimizer.clip_norm = 80.0  # paper
  return config
