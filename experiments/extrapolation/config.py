"""A new tiny model, trained on chains of at most four steps.

  lrm sft --config=experiments/extrapolation/config.py \
    --config.data.train=TRAIN.jsonl --workdir=DIR

`run.py` writes the data and sets the scheme.
"""

from ml_collections import config_dict

from configs import tiny_lrm


def get_config() -> config_dict.ConfigDict:
  """The tiny LRM's config with other stages and no evaluation."""
  config = tiny_lrm.get_config()
  with config.unlocked():
    config.model.new.family = 'lrm'  # the one that knows every scheme
    config.model.new.positions = 'rope'
    config.stages = dict(
      a_short=dict(
        steps=1000,
        rows=40,
        row_length=48,  # the longest demonstration has 47 tokens
        style=dict(),  # shortest traces; the vocabulary is trained on them
      )
    )
  config.checkpoint_every = 250
  config.eval.problems = 0  # `lrm eval` does it
  return config
