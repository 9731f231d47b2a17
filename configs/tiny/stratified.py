"""Stratified GRPO, reconstructed: strata of derivations, four wide.

Width and share are ours.

  lrm train --config=configs/tiny/stratified.py --workdir=runs/stratified
"""

from configs import credits
from configs.tiny import setting


def get_config():
  return setting.tiny(
    credits.stratified(cap=256, separator='(?<![,:]) ', width=4.0, share=0.8)
  )
