"""Step Pruner, reconstructed: a derivation is a step.

lrm train --config=configs/tiny/step_pruner.py --workdir=runs/step_pruner
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(
    efficient.step_pruner(cap=256, alpha=0.5, separator='(?<![,:]) ')
  )
