"""Frugal reasoning: easy levels three times as often; the factor is ours.

lrm train --config=configs/tiny/frugal.py --workdir=runs/frugal
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  config = setting.tiny(
    efficient.frugal(cap=256, lower=0.75, upper=1.0, factor=3.0)
  )
  config.data.pass_rates = 'tiny_lrm/pass_rates.json'
  return config
