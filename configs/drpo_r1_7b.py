"""DRPO (2510.04474) on the 7B: 64 chips of a v6e (8x8).

lrm train --config=configs/drpo_r1_7b.py --workdir=runs/drpo_r1_7b
"""

from configs import drpo_r1_1p5b, pods


def get_config():
  config = drpo_r1_1p5b.get_config()
  config.model.path = 'DeepSeek-R1-Distill-Qwen-7B'
  return pods.on_pod(config, chips=64, slots=16, kv_tokens=140_000, tensor=4)
