"""Sampling under one set of parameters: batches of prompts in, samples out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lrm_jax.sampler.lane import Finished, Request
from lrm_jax.sampler.run import Run
from lrm_jax.sampler.samples import TOLD, Samples

OnEnd = Callable[[tuple[int, int], np.ndarray], None]


class Job(NamedTuple):
  """A prompt and the samples of it that are asked for.

  Attributes:
    ids: the prompt without padding; the tokens that its samples have been
      given before are its last ones.
    requests: what each of them asks for, by (row, sample) of its batch;
      `index` is given later.
    is_last: whether a sample is over at its cap. It goes on another time
      where not.
  """

  ids: np.ndarray
  requests: dict[tuple[int, int], Request]
  is_last: bool


@dataclasses.dataclass
class _Batch:
  """What a batch has so far.

  Attributes:
    first: number of its first request.
    wanted: (row, sample), the job and the request, in order of their numbers.
    samples: filled in as they end.
    left: requests that are not over.
    on_end: see `Session.add`.
  """

  first: int
  wanted: list[tuple[tuple[int, int], Job, Request]]
  samples: Samples
  left: int
  on_end: OnEnd | None


class Session:
  """Batches that share the slots; see `Sampler.open`.

  Samples of a later batch take the slots that an earlier one has left, so that
  what may be needed next can be begun before it is known to be.
  """

  def __init__(self, run: Run, describe: Callable[[Samples], Samples]):
    """Nothing is asked for yet.

    Args:
      run: that nobody else uses.
      describe: what is done to the samples of a batch when they are complete.
    """
    self._run = run
    self._describe = describe
    self._ending = iter(())
    self._batches: list[_Batch] = []
    self._requests = 0
    self._is_closed = False

  def add(
    self, jobs: Sequence[Job], samples: Samples, on_end: OnEnd | None
  ) -> int:
    """One more batch; returns its number.

    Args:
      jobs: what is asked for; up to G samples each.
      samples: `[N, G]`, written in place. What nobody asks for stays, and is
        over.
      on_end: told of each sample when it is over.

    Raises:
      ValueError: the session is closed.
    """
    if self._is_closed:
      raise ValueError('this session is over; open another one')
    batch = _Batch(self._requests, [], samples, 0, on_end)
    for job in jobs:
      numbered = []
      for at, request in job.requests.items():
        batch.wanted.append((at, job, request))
        numbered.append(request._replace(index=self._requests))
        self._requests += 1
      self._run.submit(job.ids, numbered)
    if on_end is not None:
      wanted = {at for at, *_ in batch.wanted}
      for at in np.ndindex(samples.length.shape):
        if at not in wanted:
          on_end(at, samples.response_ids[at][: samples.length[at]])
    batch.left = len(batch.wanted)
    self._batches.append(batch)
    return len(self._batches) - 1

  def wait(self, number: int) -> Samples:
    """The samples of a batch, when the last of them is over."""
    batch, is_new = self._batches[number], False
    while batch.left:
      done = next(self._ending, None)
      if done is not None:
        self._take(done)
      elif is_new:
        raise RuntimeError(f'{batch.left} samples that no lane has room for')
      else:
        self._ending = iter(self._run)
      is_new = done is None
    return self._describe(batch.samples)

  def close(self) -> None:
    """Whatever is not over is not wanted any more."""
    self._is_closed = True
    self._run.cancel(range(self._requests))
    for _ in self._ending:
      pass

  def _take(self, done: Finished) -> None:
    # The last one: those before may have asked for nothing.
    batch = next(b for b in self._batches[::-1] if b.first <= done.index)
    samples = batch.samples
    at, job, request = batch.wanted[done.index - batch.first]
    start = len(request.before)
    length = start + len(done.ids)
    for name, values in done.told.items():
      getattr(samples, TOLD[name])[at][start:length] = values
    samples.length[at] = length
    samples.truncated[at] = not done.ended
    batch.left -= 1
    if batch.on_end is not None and (done.ended or job.is_last):
      batch.on_end(at, samples.response_ids[at][:length])


def jobs(
  prompts: Sequence[np.ndarray],
  caps: np.ndarray,
  samples: Samples,
  request: Callable[[tuple[int, int], np.ndarray], Request],
  most: int,
) -> list[Job]:
  """What is left to do; samples of a prompt that were not begun share it.

  Args:
    prompts: N of them, without padding.
    caps: `[N]` tokens of a response.
    samples: `[N, G]` so far.
    request: for (row, sample) and the ids that it has.
    most: tokens that a request asks for at most.
  """
  found = []
  for row, ids in enumerate(prompts):
    fresh = {}
    for at in ((row, g) for g in range(samples.length.shape[1])):
      length = int(samples.length[at])
      left = int(caps[row]) - length
      if not samples.truncated[at] or left <= 0:
        continue
      before = samples.response_ids[at][:length]
      if length:
        both = np.concatenate([ids, before])
        found.append(Job(both, {at: request(at, before)}, left <= most))
      else:
        fresh[at] = request(at, before)
    if fresh:
      found.append(Job(ids, fresh, bool(caps[row] <= most)))
  return found
