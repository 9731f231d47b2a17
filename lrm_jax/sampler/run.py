"""Samples for one set of parameters: groups in, finished samples out."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
  FIRST_COMPLETED,
  Future,
  ThreadPoolExecutor,
  wait,
)

import numpy as np

from lrm_jax.sampler.lane import Finished, Group, Lane, Request


class Run:
  """Groups waiting, and the lanes that they are given to.

  `submit` groups, then iterate over what is finished, in any order; more may
  be submitted and `cancel`led meanwhile.
  """

  def __init__(self, lanes: Sequence[Lane], most_samples: int):
    """Lanes that nobody else uses, and G."""
    self._lanes = lanes
    self._most = most_samples
    self._waiting: collections.deque[Group] = collections.deque()
    self._unwanted: set[int] = set()

  def submit(self, ids: np.ndarray, requests: Sequence[Request]) -> None:
    """A prompt, without padding, and at most G samples of it."""
    if not 0 < len(requests) <= self._most:
      raise ValueError(
        f'{len(requests)} samples of a prompt; 1 to {self._most}'
      )
    self._waiting.append(Group(ids, list(requests), len(requests)))

  def cancel(self, indices: Iterable[int]) -> None:
    """These are not wanted any more; nothing more is heard of them."""
    unwanted = set(indices)
    self._unwanted |= unwanted
    for group in list(self._waiting):
      group.requests = [r for r in group.requests if r.index not in unwanted]
      group.left = len(group.requests)
      if not group.requests:
        self._waiting.remove(group)

  def __iter__(self) -> Iterator[Finished]:
    """Yields samples as they end, until none is left.

    A thread for each lane: a program that is started by one thread may wait
    for others that the same thread has started.
    """
    busy: dict[Future, Lane] = {}
    with ThreadPoolExecutor(len(self._lanes)) as threads:
      while True:
        idle = [lane for lane in self._lanes if lane not in busy.values()]
        for lane in idle:
          lane.cancel(self._unwanted)
        self._hand_out(idle)
        for lane in idle:
          # One that has rows to take back may have room after that.
          if lane.load or (self._waiting and lane.is_taking_back):
            busy[threads.submit(lane.advance)] = lane
        if not busy:
          break
        for done in wait(busy, return_when=FIRST_COMPLETED).done:
          del busy[done]
          for finished in done.result():
            if finished.index not in self._unwanted:
              yield finished

  def _hand_out(self, idle: Sequence[Lane]) -> None:
    """Gives groups to the lanes that have least to do, in order."""
    given: dict[int, list[Group]] = {}
    while self._waiting:
      group = self._waiting[0]
      able = [i for i, lane in enumerate(idle) if lane.has_room(group)]
      if not able:
        break
      number = min(able, key=lambda i: idle[i].load)
      idle[number].put(self._waiting.popleft())
      given.setdefault(number, []).append(group)
    for number, groups in given.items():
      idle[number].prefill(groups)
