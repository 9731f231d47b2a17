"""ThinkPrune (2504.01296): a cap, stated in the prompt, that steps down.

  lrm train --config=configs/think_prune_r1_1p5b.py \
    --workdir=runs/think_prune_r1_1p5b

The paper trains on past AIME and AMC problems, in three runs.
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.think_prune(
      caps=(4000, 3000, 2000),  # paper
      lengths=(100, 100, 100),  # not stated; ours: steps
    ),
    problems=128,  # paper
    samples=16,  # paper
    mini_batches=1,  # paper
    room=4000,  # the first cap
    learning_rate=1e-6,  # paper
    steps=300,  # not stated; ours
  )
  config.data.instruction += ' Think within {target} tokens.'  # wording ours
  config.eval.target = 2000  # the last cap
  return config
