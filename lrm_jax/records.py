"""Rollouts as rows of JSON Lines."""

from collections.abc import Sequence

import numpy as np

from lrm_jax.structs import Problem, Rollouts
from lrm_jax.tokenization.base import Tokenizer


def response_rows(
  tokenizer: Tokenizer, problems: Sequence[Problem], rollouts: Rollouts
) -> list[dict]:
  """One JSON-able row per sample, as `lrm sample` writes them.

  Keys: id, sample, prompt_ids, response, response_ids, logp, length,
  thinking_length, truncated, correct.
  """
  rows = []
  for b, problem in enumerate(problems):
    prompt = rollouts.prompt_ids[b, : rollouts.prompt_length[b]].tolist()
    for g, length in enumerate(rollouts.length[b]):
      row = sample_row(
        tokenizer,
        prompt,
        rollouts.response_ids[b, g, :length],
        rollouts.sampler_logp[b, g, :length],
        rollouts.thinking_length[b, g],
        rollouts.truncated[b, g],
      )
      correct = bool(rollouts.correct[b, g])
      rows.append({'id': problem.id, 'sample': g} | row | {'correct': correct})
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
