"""A finished run that nobody has trained."""

import json

from lrm_jax import jsonl

MADE_WITH = {
  'commit': 'c0ffee000000',
  'versions': {'jax': '1.2', 'flax': '3.4'},
  'machine': 'an abacus',
}
IDS = ('chain-heldout-2-000000', 'chain-heldout-7-000001')


def write(
  workdir, *, seed=0, right=(0.5, 1.0), tokens=(10, 30), ids=IDS, config=None
):
  """A workdir of `lrm train` with two problems, two samples each.

  Before, every answer is wrong and 100 tokens long; after, as given.
  """
  (workdir / 'evaluation').mkdir(parents=True)
  if config is None:
    config = {
      'seed': seed,
      'model': {'path': 'tiny_lrm'},
      'train': {'steps': 2},
    }
  record = {'verb': 'train', 'config': config}
  (workdir / 'config.json').write_text(json.dumps(record))
  summary = {'config': config, 'seconds': 61.2, 'made_with': MADE_WITH}
  (workdir / 'summary.json').write_text(json.dumps(summary))
  steps = [{'step': s, 'sampled_tokens': 1000.0} for s in (1, 2)]
  jsonl.write_rows(workdir / 'metrics.jsonl', steps)
  zero, hundred = (0.0, 0.0), (100, 100)
  for name, step, shares, lengths in (
    ('before', 0, zero, hundred),
    ('after', 2, right, tokens),
  ):
    rows = [
      {
        'id': id,
        'sample': sample,
        'correct': sample < round(2 * share),
        'verified': True,
        'length': length + (1 if sample else -1),
        'thinking_length': 2,
        'truncated': False,
        'extracted': None,
        'class': -1,
      }
      for id, share, length in zip(ids, shares, lengths, strict=True)
      for sample in (0, 1)
    ]
    jsonl.write_rows(workdir / 'evaluation' / f'{name}.jsonl.gz', rows)
    summary = {
      'step': step,
      'accuracy': sum(shares) / 2,
      'response_tokens': sum(lengths) / 2,
      'truncated': 0.0,
      'by_level': [],
      'settings': {'samples': 2},
      'identity': {'path': 'tiny_lrm'},
    }
    (workdir / 'evaluation' / f'{name}.json').write_text(json.dumps(summary))
