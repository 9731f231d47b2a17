"""DOT: groups of 32, since no outlier of 3 deviations exists in 8.

  lrm train --config=configs/tiny/dot.py --workdir=runs/dot

The margin is the paper's 32 tokens, scaled with the length of a response.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(efficient.dot(cap=256, margin=8))
  config.train.problems = 8
  config.train.samples = 32
  config.train.rows = 32  # a micro-batch holds a whole group
  # Over-sampling fills whole batches of the sampler: 12 problems at first.
  config.sampler.slots = 4 * 32
  return config
