"""The two compiled programs of sampling: prefill, and a chunk of rounds.

A chunk is a loop on the device over rounds of a few tokens. Before each round
the slots are filled (`slots.py`); a round runs on as many rows as are needed,
out of a few widths.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from lrm_jax import collectives
from lrm_jax.models import cache, output_head, paged, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.sampler import closing, slots
from lrm_jax.sampler.draw import draw
from lrm_jax.sampler.state import NOBODY, Layout, Prompts, Requests, State
from lrm_jax.structs import Array

# How a sample ended, in `Trace.end`.
GOES_ON, EOS, CAP = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trace:
  """What a chunk sampled; R rounds of t tokens.

  Attributes:
    rounds: int32 scalar, how many of them ran.
    request: `[R, W]` int32, a row of `Requests`, or NOBODY.
    start: `[R, W]` int32 tokens that the request had before the round.
    count: `[R, W]` int32, its tokens of this round.
    end: `[R, W]` int8, one of GOES_ON, EOS, CAP.
    ids: `[R, t, W]` int32.
    logp: `[R, t, W]` float32.
    mass: `[R, t, W]` float32, what truncation kept of the law.
    kept: `[R, t, W, layout.kept]` int32, the ids that it kept; -1 behind them.
    is_forced: `[R, t, W]` bool.
    width: `[R]` int32 rows of the round.
    pages: `[R]` int32 pages that responses held in it.
    live: `[R]` int32 tokens in them when it began.
    preempted: int32 scalar, since the engine was made.
    left: int32 scalar, requests that run or wait.
  """

  rounds: Array
  request: Array
  start: Array
  count: Array
  end: Array
  ids: Array
  logp: Array
  mass: Array
  kept: Array
  is_forced: Array
  width: Array
  pages: Array
  live: Array
  preempted: Array
  left: Array


# Once for all lanes and chunks: a copy of all weights.
turn = jax.jit(transformer.turn, static_argnames='config')


@functools.partial(
  jax.jit, static_argnames=('config', 'layout'), donate_argnames='state'
)
def chunk(
  config: ModelConfig,
  layout: Layout,
  turned: transformer.Turned,
  requests: Requests,
  state: State,
) -> tuple[State, Trace]:
  """Rounds until nobody is left, `layout.rounds` at most."""
  state = dataclasses.replace(state, waiting=state.waiting | requests.is_new)

  def goes_on(carry):
    state, trace = carry
    is_left = jnp.any(state.running) | jnp.any(state.waiting)
    is_left = collectives.most_of_lanes(is_left.astype(jnp.int32))
    return (trace.rounds < layout.rounds) & (is_left > 0)

  def one_round(carry):
    state, trace = carry
    state = slots.between_rounds(layout, requests, state)
    begin, pages = state, slots.directories(layout, requests, state)
    recent = paged.empty_recents(config, layout.slots, layout.round_tokens)
    index = jnp.sum(jnp.array(layout.widths) < jnp.sum(state.running))
    index = collectives.most_of_lanes(index)
    # For each width a loop that runs once or not at all: what goes through a
    # branch would be copied.
    for number, width in enumerate(layout.widths):
      run = functools.partial(
        _round, config, layout, width, turned, requests, pages
      )
      state, trace, recent = jax.lax.fori_loop(
        0,
        (index == number).astype(jnp.int32),
        lambda _, now, run=run: run(*now),
        (state, trace, recent),
      )
    pools = move(layout, begin, state.response_pools, recent)
    return dataclasses.replace(state, response_pools=pools), trace

  state, trace = jax.lax.while_loop(
    goes_on, one_round, (state, _no_trace(layout))
  )
  left = jnp.sum(state.running) + jnp.sum(state.waiting)
  return state, dataclasses.replace(
    trace, preempted=state.preempted, left=left.astype(jnp.int32)
  )


def _no_trace(layout: Layout) -> Trace:
  rounds, width = layout.rounds, layout.slots
  whole = lambda dtype: jnp.zeros((rounds, width), dtype)
  return Trace(
    rounds=jnp.int32(0),
    request=whole(jnp.int32) + NOBODY,
    start=whole(jnp.int32),
    count=whole(jnp.int32),
    end=whole(jnp.int8),
    **_no_tokens(layout, (rounds, layout.round_tokens, width)),
    width=jnp.zeros(rounds, jnp.int32),
    pages=jnp.zeros(rounds, jnp.int32),
    live=jnp.zeros(rounds, jnp.int32),
    preempted=jnp.int32(0),
    left=jnp.int32(0),
  )


def _no_tokens(layout: Layout, shape: tuple[int, ...]) -> dict[str, Array]:
  """What is told of every token."""
  return {
    'ids': jnp.zeros(shape, jnp.int32),
    'logp': jnp.zeros(shape, jnp.float32),
    'mass': jnp.ones(shape, jnp.float32),
    'kept': jnp.zeros((*shape, layout.kept), jnp.int32),
    'is_forced': jnp.zeros(shape, bool),
  }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Round:
  """What the steps of a round change; w rows.

  `told` has a leading axis of steps, see `Trace`.
  """

  running: Array
  tokens: Array
  closing: Array
  forced: Array
  hidden: Array
  end: Array
  memory: paged.Memory
  told: dict[str, Array]


def _round(
  config,
  layout: Layout,
  width: int,
  turned,
  requests,
  pages,
  state,
  trace,
  recent,
) -> tuple[State, Trace, tuple[cache.Recent, ...]]:
  """`layout.round_tokens` steps of the first `width` slots."""
  done = _steps(config, layout, width, turned, requests, pages, state)
  put = lambda old, new: old.at[:width].set(new)
  tell = lambda old, new: old.at[trace.rounds, ..., :width].set(new)
  begin, request = state.tokens[:width], state.request[:width]
  told = {
    name: getattr(trace, name).at[trace.rounds, :, :width].set(told)
    for name, told in done.told.items()
  }
  trace = dataclasses.replace(
    trace,
    rounds=trace.rounds + 1,
    request=tell(
      trace.request, jnp.where(state.running[:width], request, NOBODY)
    ),
    start=tell(trace.start, begin),
    count=tell(trace.count, done.tokens - begin),
    end=tell(trace.end, done.end),
    **told,
    width=trace.width.at[trace.rounds].set(width),
    pages=trace.pages.at[trace.rounds].set(jnp.sum(state.pages != NOBODY)),
    live=trace.live.at[trace.rounds].set(jnp.sum(begin)),
  )
  state = dataclasses.replace(
    state,
    running=put(state.running, done.running),
    tokens=put(state.tokens, done.tokens),
    closing=put(state.closing, done.closing),
    forced=put(state.forced, done.forced),
    hidden=put(state.hidden, done.hidden),
    scratch=done.memory.scratch,
  )
  return state, trace, jax.tree.map(put, recent, done.memory.recent)


def _steps(
  config, layout: Layout, width: int, turned, requests, pages, state
) -> _Round:
  request = jnp.maximum(state.request[:width], 0)
  cap, offset = requests.cap[request], requests.offset[request]
  key, temperature = requests.key[request], requests.temperature[request]
  budget = requests.budget[request]
  rules = jax.tree.map(lambda x: x[request], requests.rules)
  before = state.prompts.length[requests.prompt[request]]
  eos = jnp.array(layout.eos_ids, jnp.int32)
  # Of those that are running. Here, since in the loop every layer would compute
  # sines and cosines again.
  steps = jnp.arange(layout.round_tokens)[:, None]
  prepared = paged.prepare(config, before + state.tokens[:width] + steps)

  def one_token(step, now: _Round) -> _Round:
    scores = output_head.decode_logits(config, turned, now.hidden)
    asked = collectives.own((key, offset + now.tokens, temperature, rules))
    drawn = collectives.together(draw(scores, *asked, layout.most))
    forced = closing.forced(
      layout.close_ids,
      layout.ending_ids,
      now.closing,
      now.forced,
      now.tokens,
      budget,
    )
    is_forced = forced >= 0
    ids = jnp.where(is_forced, forced, drawn.ids)
    told = {
      'ids': ids,
      'logp': jnp.where(is_forced, 0.0, drawn.logp),
      'mass': drawn.mass,
      'kept': drawn.kept[:, : layout.kept],
      'is_forced': is_forced,
    }
    tokens = now.tokens + now.running
    is_eos = now.running & jnp.isin(ids, eos)
    is_cut = now.running & ~is_eos & (tokens >= cap)
    at = before + now.tokens
    mine = jax.tree.map(lambda x: x[step], prepared)
    attend = make_attend(config, state, pages, mine, step, at)
    hidden, memory = transformer.decode(
      config, turned, ids, at, attend, now.memory
    )
    return _Round(
      running=now.running & ~is_eos & ~is_cut,
      tokens=tokens,
      closing=closing.advance(layout.close_ids, now.closing, ids),
      forced=now.forced + is_forced,
      hidden=hidden,
      end=now.end + is_eos * jnp.int8(EOS) + is_cut * jnp.int8(CAP),
      memory=memory,
      told=jax.tree.map(lambda x, new: x.at[step].set(new), now.told, told),
    )

  begin = _Round(
    running=state.running[:width],
    tokens=state.tokens[:width],
    closing=state.closing[:width],
    forced=state.forced[:width],
    hidden=state.hidden[:width],
    end=jnp.zeros(width, jnp.int8),
    memory=paged.Memory(
      paged.empty_recents(config, width, layout.round_tokens), state.scratch
    ),
    told=_no_tokens(layout, (layout.round_tokens, width)),
  )
  return jax.lax.fori_loop(0, layout.round_tokens, one_token, begin)


def make_attend(
  config: ModelConfig,
  state: State,
  pages: tuple[paged.Directory, paged.Directory],
  prepared: tuple[Any, ...],
  step: Array,
  at: Array,
):
  """What `transformer.decode` looks for keys with; see `paged.attend`."""
  pools = state.prompt_pools, state.response_pools
  return functools.partial(
    paged.attend, config, pools, pages, step, at, prepared
  )


def move(
  layout: Layout,
  begin: State,
  pools: tuple[cache.Pool, ...],
  recent: tuple[cache.Recent, ...],
) -> tuple[cache.Pool, ...]:
  """The pools of responses with a round's keys and values.

  `begin` is the state before the round.
  """
  column = jnp.minimum(begin.tokens // cache.PAGE, layout.pages_of_response - 1)
  page = jnp.take_along_axis(begin.pages, column[:, None], axis=1)[:, 0]
  page = jnp.where(begin.running, page, NOBODY)
  block = begin.tokens % cache.PAGE // layout.round_tokens
  return tuple(
    cache.write_pool(pool, page, block, new.k, new.v)
    for pool, new in zip(pools, recent, strict=True)
  )


@functools.partial(
  jax.jit, static_argnames=('config', 'layout'), donate_argnames='state'
)
def prefill(
  config: ModelConfig,
  layout: Layout,
  params: transformer.Params | transformer.Turned,
  state: State,
  ids: Array,
  length: Array,
  row: Array,
  pages: Array,
) -> State:
  """Puts prompts in their rows and pages.

  Args:
    config: the architecture.
    layout: of the engine.
    params: the model's parameters, as they are or turned.
    state: of the engine.
    ids: `[N, P]` int32, right-padded; P a multiple of PAGE.
    length: `[N]` int32 tokens, at least 1.
    row: `[N]` int32, of `Prompts`; one that does not exist is left out.
    pages: `[N, pages_of_prompt]` int32; where there is none, -1.
  """
  count, width = ids.shape
  columns = jnp.arange(width)
  inside = columns < length[:, None]
  is_turned = isinstance(params, transformer.Turned)
  apply = transformer.apply_turned if is_turned else transformer.apply
  hidden, kept = apply(
    config,
    params,
    ids,
    jnp.broadcast_to(columns, ids.shape),
    inside.astype(jnp.int32),
  )
  last = jnp.take_along_axis(hidden, length[:, None, None] - 1, axis=1)[:, 0]
  used = width // cache.PAGE
  cut = lambda x: x.reshape(
    config.n_layers, count * used, cache.PAGE, *x.shape[3:]
  )
  keys = jnp.moveaxis(cut(kept.keys), 2, 4)
  values = jnp.swapaxes(cut(kept.values), 2, 3)
  page = pages[:, :used].reshape(-1)
  prompts = state.prompts
  return dataclasses.replace(
    state,
    prompts=Prompts(
      pages=prompts.pages.at[row].set(jnp.maximum(pages, 0), mode='drop'),
      length=prompts.length.at[row].set(length, mode='drop'),
      hidden=prompts.hidden.at[row].set(last, mode='drop'),
    ),
    prompt_pools=tuple(
      cache.write_pool(pool, page, jnp.zeros_like(page), k, v)
      for pool, k, v in zip(state.prompt_pools, keys, values, strict=True)
    ),
  )
