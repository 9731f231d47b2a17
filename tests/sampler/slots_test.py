"""Slots and pages between two rounds: who stays, who comes, what they read."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import cache
from lrm_jax.sampler import slots
from lrm_jax.sampler import state as state_lib
from tests.models import paged_rows, tiny

CONFIG = tiny.make_config(d_model=8, n_kv_heads=1, head_dim=2)
PAGE, ROUND = cache.PAGE, 8
WIDTH, LIMIT, GROUP, REQUESTS, MOST = 24, 21, 3, 48, 5
# Room for everybody, and hardly any; four segments and two.
ROOMY, TIGHT = LIMIT * MOST, 40


def _layout(pages):
  whole = paged_rows.make_layout(REQUESTS // GROUP, GROUP, 70, MOST * PAGE)
  return dataclasses.replace(
    whole,
    slots=WIDTH,
    widths=(WIDTH,),
    limit=LIMIT,
    response_pages=pages,
    round_tokens=ROUND,
  )


def _make(layout, seed, running=0.7, cancelled=0.1):
  """Requests and the state after a round, with pages in any places.

  Who is over still has pages. Every page holds numbers of its own, and the
  hidden state of a slot is the number of its request.
  """
  random = np.random.default_rng(seed)
  coin = lambda chance, count: random.random(count) < chance
  many = random.permutation(REQUESTS)[:WIDTH]
  room, count = layout.response_pages, random.integers(0, LIMIT + 1)
  request, tokens = np.full(WIDTH, state_lib.NOBODY), np.zeros(WIDTH, int)
  pages = np.full((WIDTH, layout.pages_of_response), state_lib.NOBODY)
  # In every other state the highest are the last to be taken.
  free = random.permutation(room).tolist() if seed % 2 else [*range(room)][::-1]
  for slot in range(count):
    tokens[slot] = ROUND * random.integers(1, MOST * PAGE // ROUND)
    held = -(-tokens[slot] // PAGE)
    if held > len(free):
      tokens[slot] = 0
      break
    request[slot] = many[slot]
    pages[slot, :held] = [free.pop() for _ in range(held)]
  there = request != state_lib.NOBODY
  waiting = coin(0.7, REQUESTS) & ~np.isin(np.arange(REQUESTS), request)
  state = _with_numbers(layout, state_lib.empty(CONFIG, layout))
  hidden = np.tile(request[:, None], (1, CONFIG.d_model))
  state = dataclasses.replace(
    state,
    waiting=jnp.asarray(waiting),
    request=jnp.asarray(request, jnp.int32),
    tokens=jnp.asarray(tokens, jnp.int32),
    running=jnp.asarray(there & coin(running, WIDTH)),
    hidden=jnp.asarray(hidden, state.hidden.dtype),
    pages=jnp.asarray(pages, jnp.int32),
    prompts=_prompts(layout, random),
  )
  arrival = random.permutation(REQUESTS).astype(np.int32)
  requests = dataclasses.replace(
    paged_rows.make_requests(layout),
    arrival=jnp.asarray(arrival),
    is_cancelled=jnp.asarray(coin(cancelled, REQUESTS)),
    cap=jnp.full(REQUESTS, MOST * PAGE, jnp.int32),
  )
  return requests, state


def _with_numbers(layout, state):
  """Layer l of page p is full of 1000 l + p."""

  def number(layer, pool):
    starts = np.cumsum([0, *(len(pages.k) for pages in pool)])
    of = lambda start, x: jnp.broadcast_to(
      (1000 * layer + start + jnp.arange(len(x), dtype=x.dtype)).reshape(
        -1, 1, 1, 1
      ),
      x.shape,
    )
    return tuple(
      jax.tree.map(functools.partial(of, start), pages)
      for start, pages in zip(starts, pool, strict=False)
    )

  pools = [number(i, pool) for i, pool in enumerate(state.response_pools)]
  return dataclasses.replace(state, response_pools=tuple(pools))


def _prompts(layout, random):
  count = layout.prompts
  return state_lib.Prompts(
    pages=jnp.asarray(paged_rows.prompt_pages(layout)),
    length=jnp.asarray(random.integers(1, 71, count), jnp.int32),
    hidden=jnp.tile(-jnp.arange(count)[:, None] - 1.0, (1, CONFIG.d_model)),
  )


@functools.cache
def _between(layout):
  return jax.jit(functools.partial(slots.between_rounds, layout))


@functools.cache
def _compact(layout):
  return jax.jit(functools.partial(slots._compact, layout))


def _contents(state, kept):
  """`{request: its pages' numbers}` of layers; the first `kept` of each."""
  found = {}
  for slot, request in enumerate(np.asarray(state.request)):
    if request == state_lib.NOBODY:
      continue
    page = np.asarray(state.pages)[slot, : kept[request]]
    assert (page >= 0).all()
    values = []
    for layer, pool in enumerate(state.response_pools):
      for leaf in ('k', 'v'):
        whole = np.concatenate([getattr(pages, leaf) for pages in pool])
        here = whole[page]
        assert (here == here[:, :1, :1, :1]).all()
        values.append(here[:, 0, 0, 0] - 1000 * layer)
    assert (np.array(values) == values[0]).all()
    found[int(request)] = values[0].astype(int).tolist()
  return found


def _held(state):
  """Pages by request, before any is given back."""
  tokens = np.asarray(state.tokens)
  return dict(
    zip(np.asarray(state.request).tolist(), -(-tokens // PAGE), strict=True)
  )


def _used(state):
  pages = np.asarray(state.pages)
  return pages[pages != state_lib.NOBODY]


def _segments(layout, pages):
  """In use if the first so many pages are."""
  ends = np.cumsum(cache.segment_sizes(layout.response_pages))
  return int((ends < pages).sum())


class TestCompact:
  @pytest.mark.parametrize('pages', [ROOMY, TIGHT])
  def test_pages_move_with_what_is_in_them(self, pages):
    layout, moved = _layout(pages), 0
    for seed in range(40):
      _, state = _make(layout, seed)
      found = _compact(layout)(state)
      for field in ('request', 'tokens', 'running', 'hidden', 'waiting'):
        np.testing.assert_array_equal(
          getattr(found, field), getattr(state, field)
        )
      held = np.asarray(state.pages) != state_lib.NOBODY
      np.testing.assert_array_equal(found.pages != state_lib.NOBODY, held)
      used = _used(found)
      assert len(set(used.tolist())) == len(used) == held.sum()
      assert used.size == 0 or used.max() < pages
      kept = _held(state)
      assert _contents(found, kept) == _contents(state, kept)
      # No segment is in use that need not be.
      highest = used.max(initial=-1) + 1
      assert _segments(layout, highest) == _segments(layout, len(used))
      moved += (found.pages != state.pages).any()
    assert moved > 5

  def test_nothing_moves_where_nothing_is_won(self):
    layout, still = _layout(ROOMY), 0
    for seed in range(40):
      _, state = _make(layout, seed)
      count, highest = len(_used(state)), _used(state).max(initial=-1) + 1
      if _segments(layout, highest) > _segments(layout, count):
        continue
      found = _compact(layout)(state)
      jax.tree.map(np.testing.assert_array_equal, found, state)
      still += count > 0
    assert still > 0


def _check_round(layout, requests, before, after):
  """What holds whenever slots have been filled; returns what happened."""
  cancelled = np.asarray(requests.is_cancelled)
  was_waiting = set(np.flatnonzero(np.asarray(before.waiting) & ~cancelled))
  running = np.asarray(before.running)
  ran = {
    int(r) for r in np.asarray(before.request)[running] if not cancelled[r]
  }
  # Slots in use come first, and nobody else owns anything.
  runs = np.asarray(after.running)
  count = runs.sum()
  assert runs[:count].all() and count <= layout.limit
  assert (np.asarray(after.request)[count:] == state_lib.NOBODY).all()
  assert (np.asarray(after.pages)[count:] == state_lib.NOBODY).all()
  now = np.asarray(after.request)[:count].tolist()
  waits = set(np.flatnonzero(after.waiting).tolist())
  # Everybody is somewhere, once.
  assert len(set(now)) == count and not waits & set(now)
  assert waits | set(now) == was_waiting | ran
  stays, new = ran & set(now), set(now) - ran
  preempted = ran - stays
  assert after.preempted - before.preempted == len(preempted)
  # Who stays has what he had, in the order he had it.
  order = [r for r in np.asarray(before.request).tolist() if r in stays]
  assert now == order + [r for r in now if r in new]
  tokens = _by_request(before, before.tokens)
  found = _by_request(after, after.tokens)
  assert {r: found[r] for r in stays} == {r: tokens[r] for r in stays}
  hidden = _by_request(after, after.hidden[:, 0])
  assert all(hidden[r] == r for r in stays)
  kept = {r: -(-tokens[r] // PAGE) for r in stays} | dict.fromkeys(new, 0)
  old = {**_held(before)}
  assert {r: c for r, c in _contents(after, kept).items() if r in stays} == {
    r: c for r, c in _contents(before, old).items() if r in stays
  }
  # Who comes begins behind the prompt, the first to arrive first.
  prompt = np.asarray(requests.prompt)
  assert all(found[r] == 0 and hidden[r] == -prompt[r] - 1 for r in new)
  arrival = np.asarray(requests.arrival)
  assert [r for r in now if r in new] == sorted(new, key=arrival.__getitem__)
  left = waits if not preempted else waits - preempted
  assert (
    not new or not left or max(arrival[list(new)]) < min(arrival[list(left)])
  )
  # Everybody has room for the round, and nobody another's.
  used = _used(after).tolist()
  assert len(set(used)) == len(used)
  assert not used or max(used) < layout.response_pages
  for slot, request in enumerate(now):
    pages = np.asarray(after.pages)[slot]
    room = found[request] // PAGE + 1
    assert (pages[:room] >= 0).all() and (pages[room:] < 0).all()
  return stays, new, preempted, tokens


def _by_request(state, values):
  pairs = zip(
    np.asarray(state.request).tolist(), np.asarray(values).tolist(), strict=True
  )
  return {request: value for request, value in pairs if request >= 0}


class TestBetweenRounds:
  def test_with_room_for_everybody(self):
    layout, came, stayed = _layout(ROOMY), 0, 0
    for seed in range(40):
      requests, state = _make(layout, seed)
      after = _between(layout)(requests, state)
      stays, new, preempted, _ = _check_round(layout, requests, state, after)
      assert not preempted
      # Every slot that may be used is, if there is somebody for it.
      waiting = np.asarray(state.waiting & ~requests.is_cancelled).sum()
      assert len(new) == min(waiting, LIMIT - len(stays))
      came, stayed = came + len(new), stayed + len(stays)
    assert came > 100 and stayed > 100

  def test_the_youngest_give_way_when_pages_run_out(self):
    layout, out = _layout(TIGHT), 0
    for seed in range(60):
      requests, state = _make(layout, seed, running=0.95, cancelled=0.02)
      after = _between(layout)(requests, state)
      stays, new, preempted, tokens = _check_round(
        layout, requests, state, after
      )
      oldest = max((tokens[r] for r in preempted), default=0)
      assert oldest <= min((tokens[r] for r in stays), default=oldest)
      # No more of them than it takes: with the oldest one back, one lacks.
      if preempted:
        back = stays | {max(preempted, key=tokens.__getitem__)}
        needed = sum(tokens[r] // PAGE + 1 for r in back)
        assert needed > layout.response_pages
      out += len(preempted)
    assert out > 10

  def test_nobody_comes_who_would_take_a_page_that_others_want(self):
    """A page is kept for everybody who runs and is not at the last one."""
    layout, refused = _layout(TIGHT), 0
    for seed in range(40):
      requests, state = _make(layout, seed, cancelled=0)
      after = _between(layout)(requests, state)
      stays, new, _, tokens = _check_round(layout, requests, state, after)
      held = {r: -(-tokens[r] // PAGE) for r in stays}
      wants = sum(count < MOST for count in held.values())
      free = layout.response_pages - sum(held.values()) - wants
      assert len(new) <= max(free, 0)
      refused += np.asarray(after.waiting).any() and len(stays | new) < LIMIT
    assert refused > 5

  def test_a_chain_of_rounds_ends_with_everybody_served(self):
    """Sampling played by hand: every round adds tokens, all reach a cap."""
    layout = _layout(TIGHT)
    requests, state = _make(layout, 3, cancelled=0)
    random = np.random.default_rng(0)
    caps = ROUND * random.integers(1, MOST * PAGE // ROUND + 1, REQUESTS)
    requests = dataclasses.replace(requests, cap=jnp.asarray(caps, jnp.int32))
    running = state.running & (state.tokens < caps[state.request])
    state = dataclasses.replace(state, running=running)
    everybody = set(np.flatnonzero(state.waiting).tolist())
    everybody |= set(np.asarray(state.request)[np.asarray(running)].tolist())
    over = set()
    for _ in range(300):
      before, state = state, _between(layout)(requests, state)
      _check_round(layout, requests, before, state)
      tokens = state.tokens + ROUND * state.running
      ends = state.running & (tokens >= caps[state.request])
      done = set(np.asarray(state.request)[np.asarray(ends)].tolist())
      assert not done & over
      over |= done
      # What the round has sampled: a page's number, as it was at first.
      state = _with_numbers(
        layout,
        dataclasses.replace(
          state, tokens=tokens, running=state.running & ~ends
        ),
      )
      hidden = jnp.tile(state.request[:, None], (1, CONFIG.d_model))
      state = dataclasses.replace(
        state, hidden=hidden.astype(state.hidden.dtype)
      )
      if over == everybody:
        break
    assert over == everybody and len(over) > WIDTH
    assert state.preempted > 0


class TestDirectories:
  """Against loops over slots and their pages."""

  @pytest.mark.parametrize('pages', [ROOMY, TIGHT])
  def test_who_reads_what(self, pages):
    layout = _layout(pages)
    look = jax.jit(functools.partial(slots.directories, layout))
    for seed in range(10):
      requests, state = _make(layout, seed)
      state = _between(layout)(requests, state)
      found = look(requests, state)
      request = np.maximum(np.asarray(state.request), 0)
      prompt = np.asarray(requests.prompt)[request]
      length = np.asarray(state.prompts.length)[prompt]
      running = np.asarray(state.running)
      self._check(
        found[0],
        layout.prompt_pages,
        np.asarray(state.prompts.pages)[prompt],
        np.asarray(requests.column)[request],
        running * length,
        0 * length,
      )
      self._check(
        found[1],
        layout.response_pages,
        np.asarray(state.pages),
        0 * prompt,
        running * np.asarray(state.tokens),
        length,
      )

  def _check(self, found, pages, table, column, total, start):
    sizes = cache.segment_sizes(pages)
    count, readers = found.reader.shape
    assert count == sum(sizes) and found.fill.shape == (count, readers)
    fill, highest = np.zeros((count, readers), int), -1
    entries = np.full(table.shape, count * readers)
    for slot, j in np.ndindex(table.shape):
      inside = min(total[slot] - j * PAGE, PAGE)
      if inside <= 0:
        continue
      page, highest = table[slot, j], max(highest, table[slot, j])
      at = page, column[slot]
      assert fill[at] == 0  # Nobody else has this place.
      fill[at] = inside
      entries[slot, j] = page * readers + column[slot]
      assert found.reader[at] == slot
      assert found.first[page] == start[slot] + j * PAGE
    np.testing.assert_array_equal(found.fill, fill)
    np.testing.assert_array_equal(found.entries, entries)
    assert found.count == max(-(-total // PAGE))
    begins = np.cumsum([0, *sizes[:-1]])
    assert found.used == (begins <= highest).sum()
