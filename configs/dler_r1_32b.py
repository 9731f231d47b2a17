"""DLER (2510.15110) on the 32B: 128 chips of a v5p (4x4x8).

lrm train --config=configs/dler_r1_32b.py --workdir=runs/dler_r1_32b

The paper's largest model of this family is the 7B, whose numbers these are.
"""

from configs import dler_r1_7b, pods


def get_config():
  config = dler_r1_7b.get_config()
  config.model.path = 'DeepSeek-R1-Distill-Qwen-32B'
  return pods.on_pod(config, chips=128, slots=32, kv_tokens=263_000, tensor=4)
