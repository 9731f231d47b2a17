"""A tiny LRM that may leap: thinking less costs it accuracy.

  lrm sft --config=configs/tiny_lrm_leaps.py --workdir=runs/tiny_lrm_leaps

The size of `configs/tiny_lrm.py`. A step takes the next operation with it
with probability 0.5, which saves four tokens and is right in 88 % of cases
instead of 97 %; slips and re-checks are rare. So there is little that can be
left out for nothing. Two CPU cores, under 10 minutes.
"""

from configs import tiny_lrm


def get_config():
  config = tiny_lrm.get_config()
  stages = config.stages
  with config.unlocked():
    # What is derived at once has to be learnt densely too.
    stages.a_facts.update(steps=1500)
    stages.a_facts.style.update(leap=0.5)
    stages.b_verbose.update(steps=2500)
    stages.b_verbose.style = dict(
      slip=0.01,
      recheck=0.2,
      recheck_wrong=0.7,
      again=0.1,
      again_wrong=0.5,
      leap=0.5,  # a step takes the next operation with it
    )
  return config
