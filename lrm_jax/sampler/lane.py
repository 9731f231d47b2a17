"""One engine's tables on the host: rows, prompts, pages, what came back.

A lane is what the host knows of a state on a device. Several lanes run side by
side: on a CPU one for each core, since a step of one program keeps little more
than one core busy; else one on each device.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

import jax
import numpy as np

from lrm_jax.models import cache
from lrm_jax.models.config import ModelConfig
from lrm_jax.sampler import closing, decode
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.state import Layout, Requests
from lrm_jax.sampler.stops import Stops

# Tokens of a prefill, about; whole prompts.
PREFILL_TOKENS = 512


class Request(NamedTuple):
  """A sample to make.

  Attributes:
    index: the caller's number.
    key: `[2]` uint32, `jax.random.key_data` of its key.
    cap: tokens, at least 1.
    temperature: 0 for the most likely tokens.
    rules: numbers of the truncation rules that the engine has on, in its order.
    budget: tokens that it may think.
    before: tokens sampled before, the last ones of the prompt.
    forced: of these, how many were forced.
  """

  index: int
  key: np.ndarray
  cap: int
  temperature: float
  rules: tuple[float, ...] = ()
  budget: int = closing.ENDLESS
  before: tuple[int, ...] = ()
  forced: int = 0


class Finished(NamedTuple):
  """A sample that is over.

  Attributes:
    index: the caller's number.
    told: by name what is told of every token, see `decode.Trace`; each of
      `[length, ...]`, such as `ids` and `logp`.
    ended: it ended by itself before the cap.
  """

  index: int
  told: dict[str, np.ndarray]
  ended: bool

  @property
  def ids(self) -> np.ndarray:
    """`[length]` int32."""
    return self.told['ids']

  @property
  def logp(self) -> np.ndarray:
    """`[length]` float32."""
    return self.told['logp']


@dataclasses.dataclass(eq=False)
class Group:
  """A prompt and what is left of its samples."""

  ids: np.ndarray
  requests: list[Request]
  left: int
  row: int = -1
  pages: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Stats:
  """Counts of a run.

  Attributes:
    useful: tokens of finished samples.
    rows: rows x steps that were computed.
    prefilled: prompt tokens, padding left out.
    prefill_rows: prompt tokens, padding included.
    preempted: samples that were begun again.
    chunks: programs that ran.
    kv_bytes: of the pages in use, summed over rounds.
    kv_tokens: in these, likewise.
  """

  useful: int = 0
  rows: int = 0
  prefilled: int = 0
  prefill_rows: int = 0
  preempted: int = 0
  chunks: int = 0
  kv_bytes: int = 0
  kv_tokens: int = 0

  def numbers(self) -> dict[str, float]:
    """For the metrics of a step.

    `rows_used` is the share of computed rows that gave a token of a finished
    sample; `kv_bytes_per_token` is the memory that keys and values of a token
    took, shared prompts counted once, on average over rounds. `preempted`
    samples were begun again for want of pages, and `prefill_used` is the share
    of the places of prefills that a token of a prompt stood in.
    """
    return {
      'preempted': self.preempted,
      'prefill_used': self.prefilled / max(1, self.prefill_rows),
      'rows_used': self.useful / max(1, self.rows),
      'kv_bytes_per_token': self.kv_bytes / max(1, self.kv_tokens),
    }


def total(parts: Iterable[Stats]) -> Stats:
  """Of several lanes."""
  rows = zip(*map(dataclasses.astuple, parts), strict=True)
  return Stats(*map(sum, rows))


def prefill_widths(max_prompt: int) -> tuple[int, ...]:
  """Tokens that prompts are padded to: three sizes, each twice the last.

  A prompt's own length decides, so that the same prompt is always computed in
  the same shape.
  """
  longest = -(-max_prompt // cache.PAGE)
  widths = [longest]
  while len(widths) < 3 and widths[0] > 1:
    widths.insert(0, -(-widths[0] // 2))
  return tuple(width * cache.PAGE for width in widths)


def prefill_size(width: int) -> int:
  """Prompts of a prefill, each padded to so many tokens."""
  return max(1, PREFILL_TOKENS // width)


class Lane:
  """Groups that have been given to one engine."""

  def __init__(
    self,
    config: ModelConfig,
    layout: Layout,
    stops: Stops | None = None,
  ):
    """Nobody is here yet."""
    self._stops = stops
    self._layout = layout
    self.stats = Stats()
    self._page_bytes = cache.page_bytes(config, layout.kv_dtype)
    self._owner: list[tuple[Group, Request] | None] = [None] * layout.requests
    self._row_of: dict[int, int] = {}
    self._free_rows = list(range(layout.requests))[::-1]
    self._cancelled: list[int] = []
    self._free_prompts = list(range(layout.prompts))[::-1]
    self._free_pages = list(range(layout.prompt_pages))[::-1]
    self._arrivals = 0
    self._requests = state_lib.no_requests(layout)
    room = layout.requests, layout.max_tokens
    self._told = {
      'ids': np.zeros(room, np.int32),
      'logp': np.zeros(room, np.float32),
    }
    if layout.ending_ids:
      self._told['is_forced'] = np.zeros(room, bool)
    if layout.rules:
      self._told['mass'] = np.zeros(room, np.float32)
      self._told['kept'] = np.zeros((*room, layout.kept), np.int32)
    self._seen = np.zeros(layout.requests, np.int32)
    # In the last chunk that was read.
    self._ended = 0

  @property
  def load(self) -> int:
    """Samples that are not over."""
    return len(self._row_of)

  @property
  def is_taking_back(self) -> bool:
    """The device is yet to hear of samples that are not wanted any more."""
    return bool(self._cancelled)

  def has_room(self, group: Group) -> bool:
    """Whether the group can be put here now.

    No more wait here than will be begun before the next look, or half as many
    as decode: other lanes may be through with theirs before.
    """
    limit = self._layout.limit
    # Two chunks run between handing out and hearing what came of it.
    wanted = limit + max(-(-limit // 2), 2 * self._ended)
    pages = -(-len(group.ids) // cache.PAGE)
    return bool(
      self.load < wanted
      and self._free_prompts
      and len(self._free_pages) >= pages
      and len(self._free_rows) >= len(group.requests)
    )

  def put(self, group: Group) -> None:
    """Gives a group its row, its pages, and a row for each of its samples.

    A prefill has to follow before the next chunk.
    """
    group.row = self._free_prompts.pop()
    pages = -(-len(group.ids) // cache.PAGE)
    # The lowest ones, so that few segments are in use.
    self._free_pages.sort(reverse=True)
    group.pages = [self._free_pages.pop() for _ in range(pages)]
    for column, request in enumerate(group.requests):
      row = self._free_rows.pop()
      self._owner[row] = group, request
      self._row_of[request.index] = row
      table = self._requests
      table.arrival[row] = self._arrivals
      table.is_new[row] = True
      table.prompt[row] = group.row
      table.column[row] = column
      table.cap[row] = request.cap
      table.budget[row] = request.budget
      table.closing[row] = closing.state_of(
        self._layout.close_ids, request.before
      )
      table.forced[row] = request.forced
      table.offset[row] = len(request.before)
      table.key[row] = request.key
      table.temperature[row] = request.temperature
      for name, value in zip(self._layout.rules, request.rules, strict=True):
        getattr(table.rules, name)[row] = value
      self._seen[row] = 0
      self._arrivals += 1

  def prefill_batch(
    self, groups: Sequence[Group], size: int, width: int
  ) -> tuple[np.ndarray, ...]:
    """What `decode.prefill` is given for prompts that have been put here.

    Args:
      groups: `size` at most.
      size: prompts of the program.
      width: tokens that they are padded to.
    """
    layout = self._layout
    ids = np.zeros((size, width), np.int32)
    length = np.ones(size, np.int32)
    row = np.full(size, layout.prompts, np.int32)
    pages = np.full((size, layout.pages_of_prompt), -1, np.int32)
    for i, group in enumerate(groups):
      ids[i, : len(group.ids)] = group.ids
      length[i] = len(group.ids)
      row[i] = group.row
      pages[i, : len(group.pages)] = group.pages
    self.stats.prefilled += sum(len(group.ids) for group in groups)
    self.stats.prefill_rows += ids.size
    return ids, length, row, pages

  def cancel(self, indices: Set[int]) -> None:
    """Samples that are not wanted any more; they need not be here."""
    for index in indices & self._row_of.keys():
      row = self._row_of[index]
      self._let_go(row)
      self._release(row)

  def send(self) -> Requests:
    """What `decode.chunk` is told next: a copy, since this changes."""
    requests = jax.tree.map(np.copy, self._requests)
    self.stats.chunks += 1
    self._requests.is_new[:] = False
    # The device has let go of them by the time it sees these rows again.
    for row in self._cancelled:
      self._requests.is_cancelled[row] = False
      self._free_rows.append(row)
    self._cancelled.clear()
    return requests

  def read(self, trace: decode.Trace) -> Iterator[Finished]:
    """What ended in a chunk, from what the device tells of it on the host."""
    rounds = int(trace.rounds)
    self.stats.rows += int(trace.width.sum()) * self._layout.round_tokens
    self.stats.preempted = int(trace.preempted)
    self._count_memory(trace, rounds)
    request, start = trace.request[:rounds], trace.start[:rounds]
    step = np.arange(self._layout.round_tokens)[None, :, None]
    inside = np.nonzero(step < trace.count[:rounds, None])
    rows = request[inside[0], inside[2]]
    at = rows, start[inside[0], inside[2]] + inside[1]
    for name, table in self._told.items():
      table[at] = getattr(trace, name)[inside]
    ends = {}
    for place in map(tuple, np.argwhere(trace.end[:rounds] != decode.GOES_ON)):
      length = int(start[place] + trace.count[place])
      ends[int(request[place])] = length, trace.end[place] == decode.EOS
    ends |= self._find_stops(*at, ended=set(ends))
    self._ended = len(ends)
    for row, (length, ended) in ends.items():
      # Cancelled while the chunk ran.
      if self._owner[row] is not None:
        yield self._finish(row, length, bool(ended))

  def _count_memory(self, trace: decode.Trace, rounds: int) -> None:
    """Pages of responses as the device says, of prompts as they are now."""
    groups = {id(o[0]): o[0] for o in self._owner if o is not None}.values()
    pages = int(trace.pages[:rounds].sum())
    pages += rounds * sum(len(group.pages) for group in groups)
    tokens = int(trace.live[:rounds].sum())
    tokens += rounds * sum(len(group.ids) for group in groups)
    self.stats.kv_bytes += pages * self._page_bytes
    self.stats.kv_tokens += tokens

  def _find_stops(
    self, rows: np.ndarray, columns: np.ndarray, ended: Set[int]
  ) -> dict[int, tuple[int, bool]]:
    """Rows whose new tokens complete a stop string: (length, True)."""
    found = {}
    if self._stops is None:
      return found
    for row in np.unique(rows).tolist():
      if self._owner[row] is None:
        continue
      length = int(columns[rows == row].max()) + 1
      # A sample that was begun again is shorter than it was.
      seen = min(int(self._seen[row]), length)
      self._seen[row] = length
      before = self._owner[row][1].before
      stop = self._stops.length(
        [*before, *self._told['ids'][row, :length].tolist()], len(before) + seen
      )
      if stop is not None:
        found[row] = stop - len(before), True
        if row not in ended:
          self._let_go(row)
    return found

  def _finish(self, row: int, length: int, ended: bool) -> Finished:
    _, wanted = self._owner[row]
    self.stats.useful += length
    self._release(row)
    if row not in self._cancelled:
      self._free_rows.append(row)
    told = {
      name: table[row, :length].copy() for name, table in self._told.items()
    }
    return Finished(wanted.index, told, ended)

  def _let_go(self, row: int) -> None:
    """The device is told to stop; until then the row is not used again."""
    self._requests.is_cancelled[row] = True
    self._cancelled.append(row)

  def _release(self, row: int) -> None:
    """The sample is over; its prompt too if it was the last one."""
    group, request = self._owner[row]
    self._owner[row] = None
    del self._row_of[request.index]
    group.left -= 1
    if not group.left:
      self._free_prompts.append(group.row)
      self._free_pages += group.pages
