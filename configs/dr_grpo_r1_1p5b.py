"""Dr. GRPO (2503.20783): GRPO without its two normalizations.

  lrm train --config=configs/dr_grpo_r1_1p5b.py --workdir=runs/dr_grpo_r1_1p5b

The paper: Qwen2.5-Math-7B; here its hyperparameters on R1-1.5B.
"""

from configs import objectives, r1


def get_config():
  return r1.r1(
    objectives.dr_grpo(cap=3000),  # released script
    problems=128,  # released script
    samples=8,  # released script
    mini_batches=8,  # released script: 128 responses each
    room=3000,  # the cap
    learning_rate=1e-6,  # released script
    steps=1250,  # released script: 20 epochs of 8k problems
    temperature=1.0,  # released script
  )
