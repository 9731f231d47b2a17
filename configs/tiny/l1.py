"""L1-Exact: prompts ask for 24 to 128 tokens; evaluated at 48.

  lrm train --config=configs/tiny/l1.py --workdir=runs/l1

The penalty per token is the paper's, scaled with the largest target.
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(efficient.l1(cap=256, low=24, high=128, alpha=0.01))
  config.data.instruction = 'n={target}'
  config.eval.target = 48
  return config
