"""DLER (2510.15110): truncation, and the recipe that makes it work.

lrm train --config=configs/dler_r1_1p5b.py --workdir=runs/dler_r1_1p5b

On 16 chips of a v5e (4x4), see `experiments/pods/README.md`.
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
    steps=450,  # paper, of the 7B; ours for this model
    temperature=1.0,  # paper
    rounds=10,  # not stated; ours
  )
  config.optimizer.weight_decay = 0.01  # paper
  config.optimizer.clip_norm = 1.0  # paper
  return pods.on_pod(config, chips=16, slots=64, kv_tokens=280_000)  # planned
