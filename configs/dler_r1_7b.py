"""DLER (2510.15110) on the 7B: 64 chips of a v5p (4x4x4).

lrm train --config=configs/dler_r1_7b.py --workdir=runs/dler_r1_7b
"""

from configs import efficient, pods, r1


def get_config():
  config = r1.r1(
    efficient.dler(cap=4000),  # paper
    problems=512,  # paper
    samples=16,  # paper
    mini_batches=8,  # paper: 64 problems each
    room=8192,  # the cap and more, to raise it
    learning_rate=1e-6,  # paper
    steps=450,  # paper
    temperature=1.0,  # paper
    rounds=10,  # not stated; ours
  )
  config.model.path = 'DeepSeek-R1-Distill-Qwen-7B'
  config.optimizer.weight_decay = 0.01  # paper
  config.optimizer.clip_norm = 1.0  # paper
  return pods.on_pod(config, chips=64, slots=128, kv_tokens=1_050_000)
