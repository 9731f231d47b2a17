"""DLER on a Qwen2-architecture checkpoint and a JSONL of questions.

  lrm train --config=configs/dler_hf.py --config.model.path=DIR \
    --config.data.train=TRAIN.jsonl --config.data.eval=TEST.jsonl --workdir=DIR

Objective as in the paper (arXiv 2510.15110); sizes for a small model on one
machine. The paper: B=512, G=16, 8 mini-batches, cap 4000, lr 1e-6.
"""

from configs import default, efficient


def get_config():
  config = default.get_config()
  config.data.max_prompt_tokens = 512
  config.data.instruction = (
    'Please reason step by step, and put your final answer within \\boxed{}.'
  )
  config.train.problems = 8
  config.train.samples = 4
  config.train.max_tokens = 512
  config.train.rows = 8
  config.train.row_length = 1024  # prompt + response
  config.train.groups = 2
  config.train.logit_chunk = 512  # some four arrays of this x vocabulary
  config.sampler.slots = 32
  config.eval.problems = 8
  config.eval.samples = 2
  config.eval.max_tokens = 512
  config.optimizer.learning_rate = 1e-6  # the paper's
  config.objective = efficient.dler(cap=512)
  return config
