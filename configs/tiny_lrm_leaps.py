"""A tiny LRM that may leap: thinking less costs it accuracy.

  lrm sft --config=configs/tiny_lrm_leaps.py --workdir=runs/tiny_lrm_leaps

The size of `configs/tiny_lrm.py`. In its second stage a step takes the next
operation with it with probability 0.4, which saves tokens and is often wrong,
and re-checks are rare: so there is little that can be left out for nothing.
Two CPU cores, about 10 minutes.
"""

from configs import tiny_lrm


def get_config():
  config = tiny_lrm.get_config()
  with config.unlocked():
    config.stages.b_verbose.style = dict(
      slip=0.02,
      recheck=0.2,
      recheck_wrong=0.7,
      again=0.1,
      again_wrong=0.5,
      leap=0.4,  # a step takes the next operation with it
    )
  return config
