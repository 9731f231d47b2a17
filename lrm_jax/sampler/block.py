"""Lanes that are sent their work together."""

from collections.abc import Mapping, Sequence, Set

from lrm_jax.sampler import lane as lane_lib
from lrm_jax.sampler.decode import Trace
from lrm_jax.sampler.lane import Finished, Group, Lane
from lrm_jax.sampler.spread import One, Spread
from lrm_jax.sampler.state import Layout, State


class Block:
  """A lane, or several that run the same program at the same time."""

  def __init__(
    self,
    layout: Layout,
    programs: One | Spread,
    lanes: Sequence[Lane],
    state: State | None,
  ):
    """Nobody is here yet.

    Args:
      layout: of each lane.
      programs: what the lanes run.
      lanes: as many as the programs have.
      state: that of an earlier block of them; None for a new one.
    """
    self.lanes = lanes
    self.state: State | None = (
      programs.empty() if state is None else programs.vacate(state)
    )
    self._layout, self._programs = layout, programs
    self._last: Trace | None = None

  @property
  def load(self) -> int:
    """Samples that are not over."""
    return sum(lane.load for lane in self.lanes)

  @property
  def is_taking_back(self) -> bool:
    """The device is yet to hear of samples that are not wanted any more."""
    return any(lane.is_taking_back for lane in self.lanes)

  def cancel(self, indices: Set[int]) -> None:
    """Samples that are not wanted any more; they need not be here."""
    for lane in self.lanes:
      lane.cancel(indices)

  def prefill(self, groups: Mapping[Lane, Sequence[Group]]) -> None:
    """Computes the prompts of groups that have been put into lanes."""
    widths = lane_lib.prefill_widths(self._layout.max_prompt)
    for low, width in zip((0, *widths[:-1]), widths, strict=True):
      size = lane_lib.prefill_size(width)
      mine = [
        [g for g in groups.get(lane, ()) if low < len(g.ids) <= width]
        for lane in self.lanes
      ]
      for start in range(0, max(map(len, mine)), size):
        self._prefill([m[start : start + size] for m in mine], size, width)

  def advance(self) -> list[Finished]:
    """Starts the next chunk; returns what ended in the one before."""
    before, self._last = self._last, self._dispatch()
    if before is None:
      return []
    told = self._programs.read(before)
    return [
      finished
      for lane, trace in zip(self.lanes, told, strict=True)
      for finished in lane.read(trace)
    ]

  def close(self) -> State | None:
    """Lets go of weights and buffers; returns the buffers, for another block.

    Whoever still has the session would keep them where the update of the
    parameters needs the room.
    """
    state, self.state = self.state, None
    self._programs = self._last = None
    return state

  def warm(self) -> None:
    """Compiles every program: no later prompt has to wait for it.

    Of blocks side by side each would run all of it again.
    """
    nobody = [[] for _ in self.lanes]
    for width in lane_lib.prefill_widths(self._layout.max_prompt):
      self._prefill(nobody, lane_lib.prefill_size(width), width)
    self._dispatch()
    for lane in self.lanes:
      lane.stats = lane_lib.Stats()

  def _prefill(
    self, groups: Sequence[Sequence[Group]], size: int, width: int
  ) -> None:
    batches = [
      lane.prefill_batch(mine, size, width)
      for lane, mine in zip(self.lanes, groups, strict=True)
    ]
    self.state = self._programs.prefill(self.state, batches)

  def _dispatch(self) -> Trace:
    requests = [lane.send() for lane in self.lanes]
    self.state, trace = self._programs.chunk(self.state, requests)
    return trace
