"""Which request is in which slot, and which pages are whose: on the device.

A slot decodes one sample. Between two rounds, slots whose sample is over are
given the next request, and slots that need room the next free page. What is
free is read off the tables of the slots, so that nothing can leak. If pages run
out, the samples with the fewest tokens give theirs back and start again later:
a sample depends on its request only, so it will be the same.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrm_jax.models import cache
from lrm_jax.models.paged import Directory
from lrm_jax.sampler.state import NOBODY, Layout, Requests, State
from lrm_jax.structs import Array

# Pages that are moved at a time.
MOVES = 16
# Pages that are looked through at a time, for a free one.
BLOCK = 128


def between_rounds(layout: Layout, requests: Requests, state: State) -> State:
  """Clears slots, fills them up again, and gives every slot room for a round.

  Slots in use come first, in the order they had.
  """
  wanted = ~requests.is_cancelled[state.request]
  state = _keep(state, state.running & wanted)
  state = dataclasses.replace(
    state, waiting=state.waiting & ~requests.is_cancelled
  )
  state = _preempt(layout, state)
  state = _admit(layout, requests, state)
  return _give_pages(layout, _compact(layout, state))


def _keep(state: State, stays: Array) -> State:
  """Empties slots that do not stay, and moves the others to the front."""
  order = jnp.argsort(~stays, stable=True)
  stays = stays[order]
  return dataclasses.replace(
    state,
    request=jnp.where(stays, state.request[order], NOBODY),
    tokens=jnp.where(stays, state.tokens[order], 0),
    running=stays,
    closing=state.closing[order],
    forced=state.forced[order],
    hidden=state.hidden[order],
    pages=jnp.where(stays[:, None], state.pages[order], NOBODY),
  )


def _is_free(layout: Layout, state: State) -> Array:
  """`[pages]` bool."""

  def one(column, free):
    page = state.pages[:, column]
    page = jnp.where(page < 0, layout.response_pages, page)
    return free.at[page].set(False, mode='drop')

  # As far as the longest sample goes, and not as any could.
  free = jnp.ones(layout.response_pages, bool)
  return jax.lax.fori_loop(0, jnp.max(_held(state)), one, free)


def _first(wanted: Array, count: int) -> Array:
  """Where the first `count` are, `[count]` int32; behind the end for none.

  Finds the block of each, and then its place in that, so that hardly anything
  is done for every entry.
  """
  blocks = jnp.pad(wanted, (0, -len(wanted) % BLOCK)).reshape(-1, BLOCK)
  ends = jnp.cumsum(jnp.sum(blocks, axis=1))
  rank = jnp.arange(count)
  block = jnp.sum(ends <= rank[:, None], axis=1)
  found = blocks[jnp.minimum(block, len(blocks) - 1)]
  before = jnp.concatenate([jnp.zeros(1, ends.dtype), ends])[block]
  place = jnp.sum(jnp.cumsum(found, axis=1) <= (rank - before)[:, None], axis=1)
  return jnp.where(block < len(blocks), block * BLOCK + place, len(wanted))


def _needs_page(state: State) -> Array:
  return state.running & (state.tokens % cache.PAGE == 0)


def _held(state: State) -> Array:
  return -(-state.tokens // cache.PAGE)


def _preempt(layout: Layout, state: State) -> State:
  """Takes out the youngest samples, as many as it takes for the others."""
  needs = _needs_page(state)
  free = jnp.sum(_is_free(layout, state))
  young = jnp.argsort(
    jnp.where(state.running, state.tokens, layout.max_tokens), stable=True
  )
  after = lambda x: jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
  missing = jnp.sum(needs) - after(needs[young].astype(jnp.int32))
  room = free + after(_held(state)[young])
  out = jnp.argmax(missing <= room)
  rank = jnp.zeros(layout.slots, jnp.int32)
  rank = rank.at[young].set(jnp.arange(layout.slots, dtype=jnp.int32))
  leaves = state.running & (rank < out)
  where = jnp.where(leaves, state.request, layout.requests)
  state = dataclasses.replace(
    state,
    waiting=state.waiting.at[where].set(True, mode='drop'),
    preempted=state.preempted + jnp.sum(leaves),
  )
  return _keep(state, state.running & ~leaves)


def _admit(layout: Layout, requests: Requests, state: State) -> State:
  """The next requests into empty slots, while there is room for all.

  Whoever runs already and may want another page has a right to it first.
  """
  running = jnp.sum(state.running)
  last = -(-requests.cap[state.request] // cache.PAGE)
  wants = state.running & (_held(state) < last)
  free = jnp.sum(_is_free(layout, state)) - jnp.sum(wants)
  count = jnp.minimum(layout.limit - running, jnp.sum(state.waiting))
  count = jnp.clip(count, 0, jnp.maximum(free, 0))
  never = jnp.iinfo(jnp.int32).max
  order = jnp.argsort(jnp.where(state.waiting, requests.arrival, never))
  rank = jnp.arange(layout.slots) - running
  comes = (rank >= 0) & (rank < count)
  row = order[jnp.clip(rank, 0, layout.requests - 1)]
  where = jnp.where(comes, row, layout.requests)
  begins = state.prompts.hidden[requests.prompt[row]]
  return dataclasses.replace(
    state,
    waiting=state.waiting.at[where].set(False, mode='drop'),
    request=jnp.where(comes, row, state.request),
    tokens=jnp.where(comes, 0, state.tokens),
    running=state.running | comes,
    closing=jnp.where(comes, requests.closing[row], state.closing),
    forced=jnp.where(comes, requests.forced[row], state.forced),
    hidden=jnp.where(comes[:, None], begins, state.hidden),
  )


def _compact(layout: Layout, state: State) -> State:
  """Moves the highest pages into gaps, if that leaves a segment unused.

  A step reads all pages of the segments in use, and the gaps that short samples
  leave behind would keep it reading what long ones are spread over.
  """
  sizes = cache.read_sizes(layout.response_pages, layout.block)
  ends = jnp.cumsum(jnp.array(sizes))

  def segments(pages):
    return jnp.sum(ends < pages)

  def is_spread(state):
    used = ~_is_free(layout, state)
    highest = jnp.max(jnp.where(used, jnp.arange(len(used)), -1))
    return segments(highest + 1) > segments(jnp.sum(used))

  def move(state):
    free = _is_free(layout, state)
    every = jnp.arange(len(free))
    target = _first(free, MOVES)
    source = len(free) - 1 - _first(~free[::-1], MOVES)
    target = jnp.where(target < source, target, layout.response_pages)
    new = every.at[jnp.where(target < len(free), source, len(free))].set(
      target, mode='drop'
    )
    place = jnp.where(state.pages < 0, state.pages, new[state.pages])
    return dataclasses.replace(
      state,
      pages=place.astype(jnp.int32),
      response_pools=tuple(
        cache.move_pages(pool, source, target) for pool in state.response_pools
      ),
    )

  return jax.lax.while_loop(is_spread, move, state)


def _give_pages(layout: Layout, state: State) -> State:
  """The lowest free pages, so that few segments are in use."""
  needs = _needs_page(state)
  free = _first(_is_free(layout, state), layout.slots)
  page = free[jnp.cumsum(needs) - 1].astype(jnp.int32)
  column = jnp.minimum(state.tokens // cache.PAGE, layout.pages_of_response - 1)
  row = jnp.where(needs, jnp.arange(layout.slots), layout.slots)
  return dataclasses.replace(
    state, pages=state.pages.at[row, column].set(page, mode='drop')
  )


def directories(
  layout: Layout, requests: Requests, state: State
) -> tuple[Directory, Directory]:
  """Who reads what in the coming round: prompts, responses."""
  request = jnp.maximum(state.request, 0)
  prompt = requests.prompt[request]
  length = state.prompts.length[prompt]
  total = length * state.running
  prompts = _directory(
    layout.prompt_pages,
    layout.block,
    layout.readers,
    state.prompts.pages[prompt],
    requests.column[request],
    total,
    jnp.zeros_like(length),
  )
  responses = _directory(
    layout.response_pages,
    layout.block,
    1,
    state.pages,
    jnp.zeros_like(prompt),
    state.tokens * state.running,
    length,
  )
  return prompts, responses


def _directory(pages, block, readers, table, column, total, start) -> Directory:
  """See `Directory`; `total` tokens lie in a slot's pages `[W, J]` of `table`.

  Their first one stands at position `start`.
  """
  sizes = cache.read_sizes(pages, block)
  pages = sum(sizes)
  slots, most = table.shape
  begins = cache.PAGE * jnp.arange(most)
  fill = jnp.clip(total[:, None] - begins, 0, cache.PAGE)

  def one(j, found):
    reader, first, filled = found
    # Pages that a slot does not read go nowhere.
    page = jnp.where(fill[:, j] > 0, table[:, j], pages)
    at = page, column
    return (
      reader.at[at].set(jnp.arange(slots), mode='drop'),
      first.at[page].set(start + begins[j], mode='drop'),
      filled.at[at].set(fill[:, j], mode='drop'),
    )

  count = jnp.max(-(-total // cache.PAGE))
  blank = jnp.zeros((pages, readers), jnp.int32)
  reader, first, filled = jax.lax.fori_loop(
    0, count, one, (blank, jnp.zeros(pages, jnp.int32), blank)
  )
  highest = jnp.max(jnp.where(fill > 0, table, -1))
  starts = jnp.array([sum(sizes[:i]) for i in range(len(sizes))])
  return Directory(
    reader=reader,
    first=first,
    fill=filled,
    entries=jnp.where(
      fill > 0, table * readers + column[:, None], pages * readers
    ),
    count=count,
    used=jnp.sum(starts <= highest),
    block=block,
  )
