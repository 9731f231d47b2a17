"""Problems to `Rollouts`: prompts, samples, verdicts."""

import bisect
import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lrm_jax.data import pipeline, prompts
from lrm_jax.models.transformer import Params
from lrm_jax.objectives.measures import Response
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler import engine
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
    measures: name -> `response -> float`, see `objectives/measures.py`.
  """

  tokenizer: Tokenizer
  sampler: Sampler
  grader: Grader
  max_prompt_tokens: int
  instruction: str = ''
  measures: dict[str, Callable[[Response], float]] = dataclasses.field(
    default_factory=dict
  )

  def collect(
    self,
    params: Params,
    problems: Sequence[Problem],
    *,
    cap: int | np.ndarray,
    key: jax.Array,
    temperature: float,
    target: int | np.ndarray = 0,
    step: int = 0,
  ) -> Rollouts:
    """Samples and grades G responses to each problem (phases 2 and 3).

    Args:
      params: the policy.
      problems: B of them.
      cap: response tokens, one number or `[B]`.
      key: of the random stream.
      temperature: of sampling.
      target: what the prompts ask for, one number or `[B]`; read where the
        instruction states it.
      step: of training, stored with the rollouts.

    Returns:
      NumPy arrays, in the order of the problems.
    """
    numbers = lambda x: np.broadcast_to(np.asarray(x, np.int32), len(problems))
    caps, targets = numbers(cap), numbers(target)
    ids, length = pipeline.encode_problems(
      self.tokenizer,
      problems,
      self.max_prompt_tokens,
      self.instruction,
      targets if prompts.states_target(self.instruction) else None,
    )
    samples = self.sampler.generate(
      params,
      ids,
      length,
      problem_ids=[problem.id for problem in problems],
      caps=caps,
      key=key,
      temperature=temperature,
    )
    return Rollouts(
      prompt_ids=ids,
      prompt_length=length,
      cap=caps,
      target=targets,
      step=numbers(step),
      problem_index=first_rows(problems),
      removed=np.zeros_like(samples.length),
      **self._read(problems, samples),
    )

  def revise(
    self,
    problems: Sequence[Problem],
    rollouts: Rollouts,
    start: np.ndarray,
    stop: np.ndarray,
  ) -> Rollouts:
    """Takes tokens out of responses and grades those again.

    What follows the removed tokens was sampled behind another text, so its
    `sampler_logp` is not known: it becomes NaN. A response that loses its end
    counts as truncated.

    Args:
      problems: B of them.
      rollouts: their responses.
      start: `[B, G]`, the first token that goes.
      stop: `[B, G]`, the first that stays again; `start` for no change.

    Returns:
      The rollouts with the changed responses.
    """
    rows = np.flatnonzero((stop > start).any(1))
    if not len(rows):
      return rollouts
    part = jax.tree.map(lambda x: x[rows], rollouts)
    samples = _remove(part, start[rows], stop[rows], self.tokenizer.pad_id)
    closed, thinking = engine.find_first(
      samples.response_ids, samples.length, self.sampler.think_close_ids
    )
    samples = dataclasses.replace(
      samples, think_closed=closed, thinking_length=thinking
    )
    changed = self._read([problems[row] for row in rows], samples)
    changed['removed'] = part.removed + (stop - start)[rows]
    fields = {}
    for name, values in changed.items():
      old = getattr(rollouts, name)
      fields[name] = jax.tree.map(lambda x, y: _put(x, rows, y), old, values)
    return dataclasses.replace(rollouts, **fields)

  def _read(self, problems: Sequence[Problem], samples: Samples) -> dict:
    """The fields of `Rollouts` that depend on the responses alone."""
    texts = self._decode(samples)
    samples = self._find_close(samples, texts)
    correct, answered = self._grade(problems, texts)
    return {
      'response_ids': samples.response_ids,
      'length': samples.length,
      'thinking_length': samples.thinking_length,
      'sampler_logp': samples.logp,
      'truncated': samples.truncated,
      'think_closed': samples.think_closed,
      'correct': correct,
      'answered': answered,
      'measures': self._measure(problems, samples, texts, correct),
    }

  def _decode(self, samples: Samples) -> list[list[str]]:
    """B lists of G responses."""
    return [
      [self.tokenizer.decode(i[:n]) for i, n in zip(*group, strict=True)]
      for group in zip(samples.response_ids, samples.length, strict=True)
    ]

  def _grade(
    self, problems: Sequence[Problem], texts: list[list[str]]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Both `[B, G]`: 1.0 where right, True where there is an answer."""
    pairs = [
      (text, problem.answer)
      for problem, group in zip(problems, texts, strict=True)
      for text in group
    ]
    verdicts = self.grader.grade(pairs)
    shape = (len(problems), -1)
    correct = np.array([v.correct for v in verdicts], np.float32)
    answered = np.array([v.extracted is not None for v in verdicts])
    return correct.reshape(shape), answered.reshape(shape)

  def _measure(
    self,
    problems: Sequence[Problem],
    samples: Samples,
    texts: list[list[str]],
    correct: np.ndarray,
  ) -> dict[str, np.ndarray]:
    """Each measure of each response, `[B, G]` float32."""
    if not self.measures:
      return {}
    found = {
      name: np.zeros(correct.shape, np.float32) for name in self.measures
    }
    for at in np.ndindex(correct.shape):
      text = texts[at[0]][at[1]]
      response = Response(
        text=text,
        ids=samples.response_ids[at][: samples.length[at]].tolist(),
        thinking=prompts.split_response(text)[0],
        thinking_length=int(samples.thinking_length[at]),
        gold=problems[at[0]].answer,
        correct=bool(correct[at]),
        tokenizer=self.tokenizer,
      )
      for name, measure in self.measures.items():
        found[name][at] = measure(response)
    return found

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


def first_rows(problems: Sequence[Problem]) -> np.ndarray:
  """`[B]` int32: the first row with the same problem id."""
  seen: dict[str, int] = {}
  rows = [seen.setdefault(p.id, row) for row, p in enumerate(problems)]
  return np.array(rows, np.int32)


def _remove(
  rollouts: Rollouts, start: np.ndarray, stop: np.ndarray, pad_id: int
) -> Samples:
  """Samples without the tokens `start <= t < stop`."""
  ids = rollouts.response_ids.copy()
  logp = rollouts.sampler_logp.copy()
  length = rollouts.length - (stop - start)
  for at in np.argwhere(stop > start):
    at = tuple(at)
    end = rollouts.length[at]
    tail = rollouts.response_ids[at][stop[at] : end]
    ids[at][start[at] :] = pad_id
    ids[at][start[at] : start[at] + len(tail)] = tail
    logp[at][start[at] :] = 0
    logp[at][start[at] : start[at] + len(tail)] = np.nan
  loses_end = (stop > start) & (stop >= rollouts.length)
  return Samples(
    response_ids=ids,
    logp=logp,
    length=length.astype(np.int32),
    truncated=rollouts.truncated | loses_end,
    think_closed=rollouts.think_closed,
    thinking_length=rollouts.thinking_length,
  )


def _put(values: np.ndarray, rows: np.ndarray, new: np.ndarray) -> np.ndarray:
  """A copy with some rows replaced."""
  values = values.copy()
  values[rows] = new
  return values


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
