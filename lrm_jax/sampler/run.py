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

from lrm_jax import interrupts
from lrm_jax.sampler.block import Block
from lrm_jax.sampler.lane import Finished, Group, Lane, Request


class Run:
  """Groups waiting, and the blocks of lanes that they are given to.

  `submit` groups, then iterate over what is finished, in any order; more may
  be submitted and `cancel`led meanwhile.
  """

  def __init__(self, blocks: Sequence[Block], most_samples: int):
    """Blocks that nobody else uses, and G."""
    self._blocks = blocks
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

    A thread for each block: a program that is started by one thread may wait
    for others that the same thread has started.

    Raises:
      Stopped: this process was told to stop; nothing is left to iterate over.
    """
    busy: dict[Future, Block] = {}
    with ThreadPoolExecutor(len(self._blocks)) as threads:
      while True:
        idle = [block for block in self._blocks if block not in busy.values()]
        for block in idle:
          block.cancel(self._unwanted)
        self._hand_out(idle)
        for block in idle:
          # One that has rows to take back may have room after that.
          if block.load or (self._waiting and block.is_taking_back):
            busy[threads.submit(block.advance)] = block
        if not busy:
          break
        interrupts.check()
        for done in wait(busy, return_when=FIRST_COMPLETED).done:
          del busy[done]
          for finished in done.result():
            if finished.index not in self._unwanted:
              yield finished

  def _hand_out(self, idle: Sequence[Block]) -> None:
    """Gives groups to the lanes that have least to do, in order."""
    lanes = [lane for block in idle for lane in block.lanes]
    given: dict[Lane, list[Group]] = {}
    while self._waiting:
      group = self._waiting[0]
      able = [lane for lane in lanes if lane.has_room(group)]
      if not able:
        break
      lane = min(able, key=lambda lane: lane.load)
      lane.put(self._waiting.popleft())
      given.setdefault(lane, []).append(group)
    for block in idle:
      mine = {lane: given[lane] for lane in block.lanes if lane in given}
      if mine:
        block.prefill(mine)
