"""DLER on the 7B, with responses of up to 32k: 64 chips of a v5p (4x4x4).

lrm train --config=configs/dler_r1_7b_32k.py --workdir=runs/dler_r1_7b_32k

A row on each chip, as 95 GB have room for it: shared by chips (mesh.context),
the one with the end of a row has most of the attention to do. The cap is ours:
no paper trains DLER so.
"""

from configs import dler_r1_7b, efficient, pods


def get_config():
  config = dler_r1_7b.get_config()
  config.objective = efficient.dler(cap=32_000)
  config.train.max_tokens = 32_768
  config.train.row_length = config.data.max_prompt_tokens + 32_768
  return pods.on_pod(config, chips=64, slots=32, kv_tokens=1_050_000)
