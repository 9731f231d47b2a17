"""Problems to `Rollouts`: prompts, samples, verdicts."""

import bisect
import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from lrm_jax.data import pipeline, prompts
from lrm_jax.models.transformer import Params
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler.engine import Sampler, Samples
from lrm_jax.structs import Problem, Rollouts
from lrm_jax.tokenization import base
from lrm_jax.tokenization.base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Collector:
  """What it takes to turn problems into graded responses.

  Attributes:
    tokenizer: encodes prompts, decodes responses.
    sampler: samples the responses.
    grader: compares them with the gold answers.
    max_prompt_tokens: P; a longer prompt is an error.
    instruction: appended to every question; '' for none.
  """

  tokenizer: Tokenizer
  sampler: Sampler
  grader: Grader
  max_prompt_tokens: int
  instruction: str = ''

  def collect(
    self,
    params: Params,
    problems: Sequence[Problem],
    *,
    cap: int | np.ndarray,
    key: jax.Array,
    temperature: float,
  ) -> Rollouts:
    """Samples and grades G responses to each problem (phases 2 and 3).

    Args:
      params: the policy.
      problems: B of them.
      cap: response tokens, one number or `[B]`.
      key: of the random stream.
      temperature: of sampling.

    Returns:
      NumPy arrays, in the order of the problems.
    """
    ids, length = pipeline.encode_problems(
      self.tokenizer, problems, self.max_prompt_tokens, self.instruction
    )
    caps = np.broadcast_to(np.asarray(cap, np.int32), len(problems))
    samples = self.sampler.generate(
      params,
      ids,
      length,
      problem_ids=[problem.id for problem in problems],
      caps=caps,
      key=key,
      temperature=temperature,
    )
    texts = self._decode(samples)
    samples = self._find_close(samples, texts)
    return Rollouts(
      prompt_ids=ids,
      prompt_length=length,
      response_ids=samples.response_ids,
      length=samples.length,
      thinking_length=samples.thinking_length,
      sampler_logp=samples.logp,
      truncated=samples.truncated,
      think_closed=samples.think_closed,
      correct=self._grade(problems, texts),
      cap=caps,
      problem_index=np.arange(len(problems), dtype=np.int32),
    )

  def _decode(self, samples: Samples) -> list[list[str]]:
    """B lists of G responses."""
    return [
      [self.tokenizer.decode(i[:n]) for i, n in zip(*group, strict=True)]
      for group in zip(samples.response_ids, samples.length, strict=True)
    ]

  def _grade(
    self, problems: Sequence[Problem], texts: list[list[str]]
  ) -> np.ndarray:
    """`[B, G]` float32, 1 where the verifier finds the gold answer."""
    pairs = [
      (text, problem.answer)
      for problem, group in zip(problems, texts, strict=True)
      for text in group
    ]
    correct = [verdict.correct for verdict in self.grader.grade(pairs)]
    return np.array(correct, np.float32).reshape(len(problems), -1)

  def _find_close(self, samples: Samples, texts: list[list[str]]) -> Samples:
    """Finds `</think>` in the text where it is not a token of its own.

    A vocabulary without that symbol may merge its last character with what
    follows, so ids do not tell.
    """
    if base.is_symbol(self.tokenizer, prompts.THINK_CLOSE):
      return samples
    closed = np.zeros_like(samples.think_closed)
    thinking = samples.length.copy()
    for at in np.ndindex(closed.shape):
      if prompts.THINK_CLOSE not in texts[at[0]][at[1]]:
        continue
      closed[at] = True
      ids = samples.response_ids[at][: samples.length[at]]
      # The tokens that precede the one with which the tag begins to show.
      before, _, _ = prompts.split_response(texts[at[0]][at[1]])
      thinking[at] = bisect.bisect_right(
        range(len(ids)),
        len(before),
        key=lambda n: len(self.tokenizer.decode(ids[: n + 1])),  # noqa: B023
      )
    return dataclasses.replace(
      samples, think_closed=closed, thinking_length=thinking
    )


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
