"""SIRI (2509.25176) on Qwen3-8B: 64 chips of a v5p (4x4x4).

lrm train --config=configs/siri_qwen3_8b.py --workdir=runs/siri_qwen3_8b

The paper trains R1-Distill 1.5B and 7B; the model is ours, the numbers theirs.
"""

from configs import pods, siri_r1_1p5b


def get_config():
  config = siri_r1_1p5b.get_config()
  config.model.path = 'Qwen3-8B'
  return pods.on_pod(config, chips=64, slots=16, kv_tokens=263_000)
