"""Problems to `Rollouts`: prompts, samples, verdicts."""

import bisect
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from lrm_jax import distributed, responses, splicing
from lrm_jax.collection import Collection
from lrm_jax.data import pipeline, prompts
from lrm_jax.models.transformer import Params
from lrm_jax.objectives.measures import Response
from lrm_jax.rewards import guards, overlap
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.rewards.pool import Grader
from lrm_jax.sampler import closing
from lrm_jax.sampler.engine import Sampler
from lrm_jax.sampler.samples import Samples, find_first
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
    thinking_budget: tokens of thinking, for samplers that force its end.
    guards: names of `rewards/guards.py` whose hits are graded wrong; all are
      counted.
  """

  tokenizer: Tokenizer
  sampler: Sampler
  grader: Grader
  max_prompt_tokens: int
  instruction: str = ''
  measures: dict[str, Callable[[Response], float]] = dataclasses.field(
    default_factory=dict
  )
  thinking_budget: int = closing.ENDLESS
  guards: tuple[str, ...] = ()

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
    begun = self.begin(problems, cap=cap, target=target, step=step)
    (rollouts,) = self.stream(
      params, [(problems, begun)], key=key, temperature=temperature
    )
    return rollouts

  def stream(
    self,
    params: Params,
    batches: Sequence[tuple[Sequence[Problem], Rollouts]],
    *,
    key: jax.Array,
    temperature: float,
  ) -> Iterator[Rollouts]:
    """Whole responses to batches of problems, one after the other.

    Slots that the last samples of a batch leave empty are the next one's.

    Args:
      params: the policy.
      batches: problems and their responses so far, see `begin`.
      key: of the random stream.
      temperature: of sampling.

    Yields:
      As `collect` returns it, in order.
    """
    how = {'key': key, 'temperature': temperature}
    with self.open(params) as collection:
      numbers = [collection.add(*batch, **how) for batch in batches]
      for (problems, _), number in zip(batches, numbers, strict=True):
        rollouts = collection.take(number)
        # A sampler may give a response so many tokens at once only.
        while not responses.is_over(rollouts, rollouts.cap).all():
          more = collection.add(problems, rollouts, **how)
          rollouts = collection.take(more)
        yield rollouts

  def begin(
    self,
    problems: Sequence[Problem],
    *,
    cap: int | np.ndarray,
    target: int | np.ndarray = 0,
    step: int = 0,
  ) -> Rollouts:
    """Responses without a token to B problems; see `collect`."""
    numbers = lambda x: np.broadcast_to(np.asarray(x, np.int32), len(problems))
    ids, length = self.encode(problems, numbers(target))
    shape = len(problems), self.sampler.samples
    none = lambda: np.zeros(shape, np.int32)
    return Rollouts(
      prompt_ids=ids,
      prompt_length=length,
      **responses.told(self.sampler.nothing(len(problems))),
      correct=np.zeros(shape, np.float32),
      answered=np.zeros(shape, bool),
      verified=np.ones(shape, bool),
      removed=none(),
      stale=none(),
      cap=numbers(cap),
      target=numbers(target),
      step=numbers(step),
      problem_index=first_rows(problems),
      measures={name: np.zeros(shape, np.float32) for name in self.measures},
      guards={name: np.zeros(shape, bool) for name in guards.GUARDS},
    )

  def encode(
    self, problems: Sequence[Problem], target: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Prompts that ask for `target` `[B]`; see `encode_problems`."""
    return pipeline.encode_problems(
      self.tokenizer,
      problems,
      self.max_prompt_tokens,
      self.instruction,
      target if prompts.states_target(self.instruction) else None,
    )

  @contextlib.contextmanager
  def open(self, params: Params) -> Iterator[Collection]:
    """Several batches under the same parameters; see `Collection`."""
    with (
      overlap.Grading(self.grader) as grading,
      self.sampler.open(params) as session,
    ):
      yield Collection(self, session, grading)

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
    samples = splicing.remove(
      part, start[rows], stop[rows], self.tokenizer.pad_id
    )
    closed, thinking = find_first(
      samples.response_ids, samples.length, self.sampler.think_close_ids
    )
    samples = dataclasses.replace(
      samples, think_closed=closed, thinking_length=thinking
    )
    changed = distributed.of_main(
      self._grade([problems[row] for row in rows], samples)
    )
    changed['removed'] = part.removed + (stop - start)[rows]
    # What follows gets log-probabilities of now.
    is_cut = (stop > start)[rows]
    changed['stale'] = np.where(
      is_cut, np.minimum(part.stale, start[rows]), part.stale
    )
    fields = {}
    for name, values in changed.items():
      old = getattr(rollouts, name)
      fields[name] = jax.tree.map(
        lambda x, y: splicing.put(x, rows, y), old, values
      )
    return dataclasses.replace(rollouts, **fields)

  def _grade(self, problems: Sequence[Problem], samples: Samples) -> dict:
    """`read` of samples that nobody has graded."""
    texts = [
      [self.tokenizer.decode(i[:n]) for i, n in zip(*group, strict=True)]
      for group in zip(samples.response_ids, samples.length, strict=True)
    ]
    at = list(np.ndindex(samples.length.shape))
    verdicts = self.grader.grade(
      [(texts[b][g], problems[b].gold) for b, g in at]
    )
    return self.read(problems, samples, texts, verdicts)

  def read(
    self,
    problems: Sequence[Problem],
    samples: Samples,
    texts: list[list[str]],
    verdicts: Sequence[Verdict],
  ) -> dict:
    """The fields of `Rollouts` that depend on the responses alone."""
    samples = self._find_close(samples, texts)
    array = lambda values: np.array(values).reshape(samples.length.shape)
    correct = array([v.correct for v in verdicts])
    measures = {
      name: np.zeros(correct.shape, np.float32) for name in self.measures
    }
    hits = {name: np.zeros(correct.shape, bool) for name in guards.GUARDS}
    for at in np.ndindex(correct.shape):
      response = self._response(problems[at[0]], samples, texts, at)
      for name, guard in guards.GUARDS.items():
        hits[name][at] = guard(response)
      correct[at] &= not any(hits[name][at] for name in self.guards)
      response = dataclasses.replace(response, correct=bool(correct[at]))
      for name, measure in self.measures.items():
        measures[name][at] = measure(response)
    return responses.told(samples) | {
      'correct': correct.astype(np.float32),
      'answered': array([v.extracted is not None for v in verdicts]),
      'verified': array([v.status != 'timeout' for v in verdicts]),
      'measures': measures,
      'guards': hits,
    }

  def _response(
    self,
    problem: Problem,
    samples: Samples,
    texts: list[list[str]],
    at: tuple[int, int],
  ) -> Response:
    """What guards and measures look at; not correct yet."""
    text = texts[at[0]][at[1]]
    return Response(
      text=text,
      ids=samples.response_ids[at][: samples.length[at]].tolist(),
      thinking=prompts.split_response(text)[0],
      thinking_length=int(samples.thinking_length[at]),
      gold=problem.answer,
      correct=False,
      tokenizer=self.tokenizer,
      question=problem.question,
    )

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
