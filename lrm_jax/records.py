"""Rollouts as rows of JSON Lines."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_jax import jsonl, storage
from lrm_jax.structs import Problem, Rollouts
from lrm_jax.tokenization.base import Tokenizer


def write_step(
  workdir: storage.Path,
  tokenizer: Tokenizer,
  batch: Any,
  advantage: np.ndarray,
  step: int,
) -> None:
  """Writes rollouts/step_NNNNNN.jsonl.gz: the `step_rows`.

  Args:
    workdir: the run's folder.
    tokenizer: decodes responses.
    batch: a `gathering.Batch`.
    advantage: `[B, G, T]`.
    step: counted from 1.
  """
  rows = step_rows(tokenizer, batch, advantage, step)
  storage.make_folder(workdir / 'rollouts')
  jsonl.write_rows(workdir / 'rollouts' / f'step_{step:06d}.jsonl.gz', rows)


def step_rows(
  tokenizer: Tokenizer, batch: Any, advantage: np.ndarray, step: int
) -> list[dict]:
  """What a step was trained on, one row a sample.

  `advantage` is the mean over the sample's tokens; 0 where it was dropped.
  `removed` is how many tokens a revision took out; a dropped sample that lost
  its middle has null for the log-probabilities that nobody knows. `stale` is
  how many of the first tokens were sampled in earlier steps, `forced` which
  ones were given and not sampled. `reward` is null where there is no verdict.

  Args:
    tokenizer: decodes responses.
    batch: a `gathering.Batch`.
    advantage: `[B, G, T]`.
    step: counted from 1.
  """
  rows = response_rows(tokenizer, batch.problems, batch.rollouts)
  lengths = np.maximum(batch.rollouts.length, 1)
  means = advantage.sum(-1) / lengths * batch.keep
  there = [tuple(at) for at in np.argwhere(batch.rollouts.there)]
  for row, at in zip(rows, there, strict=True):
    row |= {
      'step': step,
      'removed': int(batch.rollouts.removed[at]),
      'stale': int(batch.rollouts.stale[at]),
      'forced': np.flatnonzero(batch.rollouts.forced[at]).tolist(),
      'reward': float(batch.reward[at]) if batch.judged[at] else None,
      'advantage': float(means[at]),
      'logp': [None if math.isnan(x) else x for x in row['logp']],
    }
  return rows


def response_rows(
  tokenizer: Tokenizer, problems: Sequence[Problem], rollouts: Rollouts
) -> list[dict]:
  """One JSON-able row per sample, as `lrm sample` writes them.

  Keys: id, sample, prompt_ids, response, response_ids, logp, length,
  thinking_length, truncated, correct, verified, and guards: the names of those
  of `rewards/guards.py` that the response hits.
  """
  rows = []
  for b, problem in enumerate(problems):
    prompt = rollouts.prompt_ids[b, : rollouts.prompt_length[b]].tolist()
    for g in np.flatnonzero(rollouts.there[b]).tolist():
      length = rollouts.length[b, g]
      row = sample_row(
        tokenizer,
        prompt,
        rollouts.response_ids[b, g, :length],
        rollouts.sampler_logp[b, g, :length],
        rollouts.thinking_length[b, g],
        rollouts.truncated[b, g],
      )
      verdict = {
        'correct': bool(rollouts.correct[b, g]),
        'verified': bool(rollouts.verified[b, g]),
        'guards': [name for name, hit in rollouts.guards.items() if hit[b, g]],
      }
      rows.append({'id': problem.id, 'sample': g} | row | verdict)
  return rows


def sample_row(
  tokenizer: Tokenizer,
  prompt_ids: list[int],
  response_ids: np.ndarray,
  logp: np.ndarray,
  thinking_length: int,
  truncated: bool,
) -> dict:
  """The JSON-able part of a row that describes one sample.

  Args:
    tokenizer: decodes the response.
    prompt_ids: of the prompt, without padding.
    response_ids: `[length]`, without padding.
    logp: `[length]` natural log-probabilities.
    thinking_length: tokens before `</think>`.
    truncated: the response reached its cap.
  """
  return {
    'prompt_ids': prompt_ids,
    'response': tokenizer.decode(response_ids),
    'response_ids': response_ids.tolist(),
    'logp': logp.tolist(),
    'length': len(response_ids),
    'thinking_length': int(thinking_length),
    'truncated': bool(truncated),
  }
