"""A short run in which much has to be kept: what `crash.py` kills.

Twelve steps of DA-DLER with the memory of HAPO beside it, and dynamic sampling:
up to three rounds a step, the second begun while the first is not known to be
enough. Problems come again, so that memory matters.
"""

from configs import efficient, quickstart


def get_config():
  """The run."""
  config = quickstart.get_config()
  config.data.train_problems = 24
  config.data.train = 'chain_arithmetic:train:2-4'
  config.data.eval = 'chain_arithmetic:heldout:2-4'
  config.objective = efficient.da_dler(cap=48, easy_cap=40)
  config.objective.shaping.hapo = dict(weight=0.5)
  config.train.update(
    steps=12,
    problems=6,
    samples=4,
    max_tokens=48,
    max_rounds=3,
    rounds_ahead=1,
    mini_batches=2,
    rows=8,
    row_length=96,
    groups=3,
    checkpoint_every=2,
    rollouts_every=1,
  )
  config.sampler.slots = 32
  config.eval.update(problems=8, samples=2, max_tokens=64, every=5)
  return config
