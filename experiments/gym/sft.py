"""A model of 0.2 M parameters with letters, for `train.py`.

python experiments/gym/data.py 4000 runs/gym/rows.jsonl
lrm sft --config=experiments/gym/sft.py --workdir=runs/gym/start
"""

from ml_collections import config_dict

from configs import tiny_lrm

ROWS = 'runs/gym/rows.jsonl'


def get_config() -> config_dict.ConfigDict:
  """The tiny LRM's config on rows of a file, in one stage."""
  config = tiny_lrm.get_config()
  config.tokenizer.path = config.data.train = ROWS
  config.tokenizer.vocab_size = 128
  with config.unlocked():
    config.stages = dict(
      a_rows=dict(
        steps=600,
        rows=24,
        row_length=160,
        style=dict(),  # of traces, which a file has not
      )
    )
  config.checkpoint_every = 200
  config.eval.problems = 0  # `train.py` does it
  return config
