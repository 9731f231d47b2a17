"""The objectives again, in float64 NumPy loops written from the formulas.

Nothing here is shared with the package: no masked reductions, no clamps as
selections, one sample at a time.
"""

import numpy as np

from lrm_jax.structs import Rollouts


def batch(seed, *, problems=3, samples=4, tokens=6):
  """Random `logp, old_logp, ref_logp, advantage, mask`, all `[B, G, T]`.

  Lengths run from 1 to all tokens; the first sample is dropped.
  """
  rng = np.random.default_rng(seed)
  shape = (problems, samples, tokens)
  length = rng.integers(1, tokens + 1, shape[:2])
  length[0, 0] = 0
  mask = (np.arange(tokens) < length[..., None]).astype(np.float32)
  old_logp = -rng.exponential(1.0, shape)
  logp = old_logp + rng.normal(0, 0.4, shape)
  ref_logp = old_logp + rng.normal(0, 0.4, shape)
  advantage = rng.normal(0, 1, shape)
  arrays = (logp, old_logp, ref_logp, advantage, mask)
  return tuple(np.asarray(a, np.float32) for a in arrays)


def rollouts(
  correct,
  *,
  length,
  cap=None,
  truncated=None,
  tokens=None,
  **fields,
):
  """Rollouts with everything a part may read; lists are welcome.

  Unless `fields` says otherwise nothing is truncated, thinking closed one
  token before the end, everything was answered, the cap is the longest
  response, and no problem occurs twice.
  """
  correct = np.asarray(correct, np.float32)
  problems, samples = correct.shape
  length = np.asarray(length, np.int32)
  tokens = int(length.max()) if tokens is None else tokens
  response = (problems, samples, tokens)
  given = {'cap': cap, 'truncated': truncated} | fields
  given = {name: value for name, value in given.items() if value is not None}
  values = {
    'prompt_ids': np.zeros((problems, 1)),
    'prompt_length': np.ones(problems),
    'response_ids': np.zeros(response),
    'length': length,
    'thinking_length': np.maximum(length - 1, 0),
    'sampler_logp': np.zeros(response),
    'forced': np.zeros(response),
    'truncated': np.zeros((problems, samples)),
    'think_closed': np.ones((problems, samples)),
    'correct': correct,
    'answered': np.ones((problems, samples)),
    'verified': np.ones((problems, samples)),
    'removed': np.zeros((problems, samples)),
    'stale': np.zeros((problems, samples)),
    'cap': np.full(problems, length.max()),
    'target': np.zeros(problems),
    'step': np.ones(problems),
    'problem_index': np.arange(problems),
    'measures': {},
    'guards': {},
  } | given
  floats = ('correct', 'sampler_logp')
  bools = ('truncated', 'think_closed', 'answered', 'verified', 'forced')
  hits = {
    name: np.asarray(value, bool)
    for name, value in values.pop('guards').items()
  }
  measures = {
    name: np.asarray(value, np.float32)
    for name, value in values.pop('measures').items()
  }
  arrays = {}
  for name, value in values.items():
    kind = bool if name in bools else np.int32
    arrays[name] = np.asarray(value, np.float32 if name in floats else kind)
  return Rollouts(**arrays, measures=measures, guards=hits)


def float64(*arrays):
  """The same numbers in float64."""
  return tuple(np.asarray(a, np.float64) for a in arrays)
