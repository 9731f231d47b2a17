"""RMT (2509.24375): prompts ask for fewer thinking tokens step by step.

  lrm train --config=configs/rmt_r1_1p5b.py --workdir=runs/rmt_r1_1p5b

The paper: the next token of mathematical texts, a 14B model, with next-token
prediction beside it; here its budgets and rewards on problems with answers.
"""

from configs import efficient, r1


def get_config():
  config = r1.r1(
    efficient.rmt(
      initial=800,  # paper: thinking tokens
      least=1,  # paper
      gamma=0.2,  # paper
      steps=500,  # those of the run
      room=512,  # not stated; ours
      weight=0.5,  # not stated; ours
    ),
    problems=128,  # paper
    samples=8,  # paper
    mini_batches=1,  # not stated; ours
    room=2112,  # 2 * 800 + 512
    learning_rate=1e-6,  # paper
    steps=500,  # not stated; ours
  )
  config.data.instruction += ' Think for exactly {target} tokens.'  # ours
  config.eval.target = 160  # the last budget
  return config
