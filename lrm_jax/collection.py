"""Batches of problems that are sampled and graded at the same time."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lrm_jax import distributed, interrupts, phases, responses
from lrm_jax.rewards import overlap
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.sampler.session import Session
from lrm_jax.structs import Problem, Rollouts

# Of a response that is not over.
NO_VERDICT = Verdict(False, None, 'no_answer')


class _Batch(NamedTuple):
  """What this process has of a batch, and `whole`, the responses of all."""

  problems: Sequence[Problem]
  begun: Rollouts
  texts: list[list[str]]
  whole: Rollouts


class Collection:
  """Batches of problems on their way; `Collector.open` makes it.

  Of several processes each samples and grades its own rows of a batch.
  Responses are graded while others are sampled, and those of a later batch are
  sampled while an earlier one comes to its end. What nobody has taken when the
  context ends is not sampled any further.
  """

  def __init__(
    self,
    collector: Any,
    session: Session,
    grading: overlap.Grading,
  ):
    """Nothing is on its way yet; `collector` is the `rollout.Collector`."""
    self._collector, self._session = collector, session
    self._grading = grading
    self._batches: list[_Batch] = []

  def add(
    self,
    problems: Sequence[Problem],
    begun: Rollouts,
    *,
    key: jax.Array,
    temperature: float,
    tokens: int | None = None,
  ) -> int:
    """Goes on with responses, from `Collector.begin` or from `take`.

    Args:
      problems: B of them.
      begun: their responses; those that are over stay as they are.
      key: of the random stream, the same each time.
      temperature: of sampling.
      tokens: for each response at most, at this time; None: as many as the
        sampler has room for.

    Returns:
      The number that `take` takes.
    """
    rows, whole = distributed.mine(), begun
    problems, begun = problems[rows], jax.tree.map(lambda x: x[rows], begun)
    collector, number = self._collector, len(self._batches)
    texts = [[''] * collector.sampler.samples for _ in problems]
    known = responses.is_graded(begun)

    def grade(at: tuple[int, int], response: np.ndarray) -> None:
      text = collector.tokenizer.decode(response)
      texts[at[0]][at[1]] = text
      if not known[at]:
        self._grading.put((number, *at), text, problems[at[0]].gold)

    collector.sampler.add(
      self._session,
      begun.prompt_ids,
      begun.prompt_length,
      problem_ids=[problem.id for problem in problems],
      caps=begun.cap,
      key=key,
      temperature=temperature,
      budgets=collector.thinking_budget,
      on_end=grade,
      so_far=responses.samples_of(begun),
      tokens=tokens,
    )
    self._batches.append(_Batch(problems, begun, texts, whole))
    return number

  def take(self, number: int) -> Rollouts:
    """A batch, sampled and graded; NumPy arrays, in order of its problems.

    A response that is not over has no verdict: it counts as wrong.

    Raises:
      Stopped: a process of the run was told to stop meanwhile.
    """
    problems, begun, texts, whole = self._batches[number]
    with phases.phase('sample'), interrupts.agreed():
      samples = self._session.wait(number)
    known = responses.is_graded(begun)
    over = responses.is_over(samples, begun.cap)
    at = list(zip(*np.nonzero(over & ~known), strict=True))
    # Verdicts may be lost to what stops this process: no step may have them.
    with phases.phase('verify'), interrupts.agreed():
      keys = [(number, *each) for each in at]
      found = self._grading.wait(keys, interrupts.check)
    verdicts = np.full(over.shape, NO_VERDICT, object)
    for each, verdict in zip(at, found, strict=True):
      verdicts[each] = verdict
    for each in zip(*np.nonzero(known), strict=True):
      answer = '' if begun.answered[each] else None
      status = 'ok' if begun.verified[each] else 'timeout'
      verdicts[each] = Verdict(bool(begun.correct[each]), answer, status)
    found = self._collector.read(problems, samples, texts, verdicts.ravel())
    found = distributed.together(found, len(whole.length))
    return dataclasses.replace(whole, **found)
