"""Rollouts as rows of JSON Lines."""

import math
from collections.abc import Sequence
from typing import Any

import jax
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
  """Writes rollouts/step_NNNNNN.jsonl.gz: the `sampled_rows`.

  Args:
    workdir: the run's folder.
    tokenizer: decodes responses.
    batch: a `gathering.Batch`.
    advantage: `[B, G, T]`.
    step: counted from 1.
  """
  rows = sampled_rows(tokenizer, batch, advantage, step)
  storage.make_folder(workdir / 'rollouts')
  jsonl.write_rows(workdir / 'rollouts' / f'step_{step:06d}.jsonl.gz', rows)


def sampled_rows(
  tokenizer: Tokenizer, batch: Any, advantage: np.ndarray, step: int
) -> list[dict]:
  """All that a step has sampled, one row a sample, in the order of rounds.

  Of the groups of the batch the `step_rows`, of the others the same keys:
  nothing was trained on them, so `kept` is false and `advantage` null, while
  `reward` is what the recipe gave. Every row has what a recipe reads beside
  that, so that `lrm replay` can shape and credit it again:

    round         of sampling, from 0
    row           of the group in the batch; null where it is not in it
    think_closed, answered, cap, target, measures    as in `structs.Rollouts`
    begun         the step in which the group was begun
    room          tokens that there was room for, T
    samples       responses that the problem has
    question, answer, level    of the problem
    whole_law     whether nothing was truncated when it was sampled
    demonstrated  whether the response was given, and not sampled

  Args:
    tokenizer: decodes responses.
    batch: a `gathering.Batch`.
    advantage: `[B, G, T]`.
    step: counted from 1.
  """
  sampled = batch.sampled
  place = {int(group): row for row, group in enumerate(sampled.chosen)}
  trained = step_rows(tokenizer, batch, advantage, step)
  ends = np.cumsum(batch.rollouts.there.sum(1))
  rows = []
  for group, problem in enumerate(sampled.problems):
    if group in place:
      row = place[group]
      found = trained[ends[row - 1] if row else 0 : ends[row]]
    else:
      found = _left_out(tokenizer, sampled, group, step)
    more = {
      'round': int(sampled.rounds[group]),
      'row': place[group] if group in place else None,
      'question': problem.question,
      'answer': problem.answer,
      'level': problem.level,
    }
    for g, row in enumerate(found):
      rows.append(row | more | _read_by_recipes(sampled.rollouts, (group, g)))
      given = group in place and _is_given(batch, place[group])
      rows[-1]['demonstrated'] = bool(given and g == 0)
  return rows


def _is_given(batch: Any, row: int) -> bool:
  return batch.demonstrated is not None and batch.demonstrated[row] > 0


def _left_out(
  tokenizer: Tokenizer, sampled: Any, group: int, step: int
) -> list[dict]:
  """The rows of a group that is not in the batch."""
  at = slice(group, group + 1)
  rollouts = jax.tree.map(lambda x: x[at], sampled.rollouts)
  rows = response_rows(tokenizer, sampled.problems[at], rollouts)
  for g, row in enumerate(rows):
    judged = sampled.judged[group, g]
    row |= _as_sampled(rollouts, (0, g), row) | {
      'step': step,
      'reward': float(sampled.reward[group, g]) if judged else None,
      'advantage': None,
      'kept': False,
    }
  return rows


def _read_by_recipes(rollouts: Rollouts, at: tuple[int, int]) -> dict:
  """What shaping and credit read, and rows did not tell from the beginning."""
  return {
    'think_closed': bool(rollouts.think_closed[at]),
    'answered': bool(rollouts.answered[at]),
    'cap': int(rollouts.cap[at[0]]),
    'target': int(rollouts.target[at[0]]),
    'begun': int(rollouts.step[at[0]]),
    'room': rollouts.response_ids.shape[-1],
    'samples': int(rollouts.there[at[0]].sum()),
    'whole_law': rollouts.kept_ids is None,
    'measures': {k: float(v[at]) for k, v in rollouts.measures.items()},
  }


def step_rows(
  tokenizer: Tokenizer, batch: Any, advantage: np.ndarray, step: int
) -> list[dict]:
  """What a step was trained on, one row a sample.

  `advantage` is the mean over the sample's tokens; 0 where it was dropped, and
  `kept` is false. `removed` is how many tokens a revision took out; a dropped
  sample that lost its middle has null for the log-probabilities that nobody
  knows. `stale` is how many of the first tokens were sampled in earlier steps,
  `forced` which ones were given and not sampled. `reward` is null where there
  is no verdict. Where the trainer's graph was asked before the step, samples
  that the selection kept have `old_logp` and `entropy` of each token. Where the
  trained tokens of a sample have different advantages, `token_advantages` has
  that of each token.

  Args:
    tokenizer: decodes responses.
    batch: a `gathering.Batch`.
    advantage: `[B, G, T]`.
    step: counted from 1.
  """
  rows = response_rows(tokenizer, batch.problems, batch.rollouts)
  means = sample_advantage(advantage, batch.rollouts, batch.keep)
  there = [tuple(at) for at in np.argwhere(batch.rollouts.there)]
  for row, at in zip(rows, there, strict=True):
    row |= _as_sampled(batch.rollouts, at, row) | {
      'step': step,
      'reward': float(batch.reward[at]) if batch.judged[at] else None,
      'advantage': float(means[at]),
      'kept': bool(batch.keep[at]),
    }
    each = advantage[at][: row['length']]
    if batch.keep[at] and len(np.unique(each[each != 0])) > 1:
      row['token_advantages'] = each.tolist()
    scored, sampled = batch.scored, batch.sampled
    if scored is not None and sampled.keep[sampled.chosen[at[0]], at[1]]:
      row['old_logp'] = scored.logp[at][: row['length']].tolist()
      row['entropy'] = scored.entropy[at][: row['length']].tolist()
  return rows


def sample_advantage(
  advantage: np.ndarray, rollouts: Rollouts, keep: np.ndarray
) -> np.ndarray:
  """`[B, G]`: the mean over a sample's tokens, 0 where it was dropped.

  Args:
    advantage: `[B, G, T]`, 0 on tokens that are not trained.
    rollouts: `length` is used.
    keep: `[B, G]`.
  """
  return advantage.sum(-1) / np.maximum(rollouts.length, 1) * keep


def _as_sampled(rollouts: Rollouts, at: tuple[int, int], row: dict) -> dict:
  return {
    'removed': int(rollouts.removed[at]),
    'stale': int(rollouts.stale[at]),
    'forced': np.flatnonzero(rollouts.forced[at]).tolist(),
    'logp': [None if math.isnan(x) else x for x in row['logp']],
  }


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
