"""LLDS beside GRPO: good responses keep their likelihood.

lrm train --config=configs/stability/llds.py --workdir=runs/stability_llds
"""

from configs import objectives
from configs.stability import setting


def get_config():
  return setting.off_policy(
    objectives.llds(cap=setting.CAP, kl=0.0, tolerance=1e-3)
  )
