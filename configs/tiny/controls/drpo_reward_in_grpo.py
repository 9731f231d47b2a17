"""A length reward of the size of DRPO's, in GRPO: right answers, by length.

lrm train --config=configs/tiny/controls/drpo_reward_in_grpo.py \
  --workdir=runs/drpo_reward_in_grpo

`c exp((L_min - L) / (0.1 C))`, DRPO's weights before they are shares, as the
reward of a group z-score: a right but long answer may then fall below the mean.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.compose(
      budget=dict(name='constant', cap=256),
      shaping=dict(decoupled_length=dict(temperature=0.1)),
    )
  )
