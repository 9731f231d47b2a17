"""What a compiled engine works on: its sizes, requests, prompts, slots."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax.models import cache, paged
from lrm_jax.models.config import ModelConfig
from lrm_jax.sampler.truncation_rules import Rules
from lrm_jax.structs import Array

# Stands for no request, and for no page.
NOBODY = -1


@dataclasses.dataclass(frozen=True)
class Layout:
  """What a compiled engine is fixed to.

  Attributes:
    slots: W, rows of a step.
    limit: slots in use at most.
    readers: G, most samples that share a prompt's pages.
    requests: Q, those the device knows of, running and waiting.
    prompts: prompts that may be there at the same time.
    prompt_pages: of PAGE tokens, for all prompts together.
    response_pages: likewise for responses.
    max_prompt: tokens.
    max_tokens: T, tokens of a response.
    round_tokens: steps between two looks at who is done; divides PAGE.
    rounds: most rounds of a chunk.
    widths: rows that a round may have, ascending; the last is `slots`.
    eos_ids: ids that end a response.
    close_ids: the tokens of `</think>`.
    ending_ids: what is forced when a thinking budget is spent.
    rules: names of the truncation rules that are on.
    most: ids that are ever kept by them; None for all.
    kept: of these, how many are told for every token.
    kv_dtype: one of `cache.DTYPES`.
    block: pages that are read at a time; 0: segments, see `cache`.
  """

  slots: int
  limit: int
  readers: int
  requests: int
  prompts: int
  prompt_pages: int
  response_pages: int
  max_prompt: int
  max_tokens: int
  round_tokens: int
  rounds: int
  widths: tuple[int, ...]
  eos_ids: tuple[int, ...]
  close_ids: tuple[int, ...]
  ending_ids: tuple[int, ...]
  rules: tuple[str, ...]
  most: int | None
  kept: int
  kv_dtype: str
  block: int = 0

  @property
  def pages_of_prompt(self) -> int:
    """Of the longest prompt."""
    return -(-self.max_prompt // cache.PAGE)

  @property
  def pages_of_response(self) -> int:
    """Of the longest response."""
    return -(-self.max_tokens // cache.PAGE)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Requests:
  """What is asked for, `[Q]` each; rows are reused.

  Attributes:
    arrival: int32, the order in which they are begun.
    is_new: bool, for the first time in this call.
    is_cancelled: bool, not wanted any more.
    prompt: int32, where its prompt is.
    column: int32 below G, no two samples of a prompt the same.
    cap: int32 tokens, from here on.
    budget: int32 tokens that it may think, from here on.
    closing: int32, see `closing.advance`.
    forced: int32 tokens of the ending that have been forced before.
    offset: int32 tokens that had been sampled before and are in the prompt.
    key: `[Q, 2]` uint32.
    temperature: float32.
    rules: numbers of the truncation rules that are on, float32 but `top_k`.
  """

  arrival: Array
  is_new: Array
  is_cancelled: Array
  prompt: Array
  column: Array
  cap: Array
  budget: Array
  closing: Array
  forced: Array
  offset: Array
  key: Array
  temperature: Array
  rules: Rules


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
  """Prompts that are there, one row each.

  Attributes:
    pages: `[S, pages_of_prompt]` int32.
    length: `[S]` int32 tokens.
    hidden: `[S, D]`, of the last token.
  """

  pages: Array
  length: Array
  hidden: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """All that a chunk changes.

  Attributes:
    waiting: `[Q]` bool, requests to begin.
    request: `[W]` int32, a row of `Requests`, or NOBODY.
    tokens: `[W]` int32, sampled so far.
    running: `[W]` bool, not over yet.
    closing: `[W]` int32, see `closing.advance`.
    forced: `[W]` int32 tokens of the ending that have been forced.
    hidden: `[W, D]`, of the last token.
    pages: `[W, pages_of_response]` int32, NOBODY where there is none.
    preempted: int32, samples that were begun again.
    prompts: see there.
    prompt_pools: one pool per layer.
    response_pools: one pool per layer.
    scratch: see `paged.Memory`. It is as large as the pools want it, so that
      making it anew for every round would take long where they are large.
  """

  waiting: Array
  request: Array
  tokens: Array
  running: Array
  closing: Array
  forced: Array
  hidden: Array
  pages: Array
  preempted: Array
  prompts: Prompts
  prompt_pools: tuple[cache.Pool, ...]
  response_pools: tuple[cache.Pool, ...]
  scratch: tuple[paged.Partial, paged.Partial]


@functools.partial(jax.jit, static_argnums=(0, 1))
def empty(config: ModelConfig, layout: Layout) -> State:
  """Nobody in any slot."""
  slots, width = layout.slots, config.d_model
  pool = lambda pages: tuple(
    cache.empty_pool(config, pages, layout.kv_dtype, layout.block)
    for _ in range(config.n_layers)
  )
  return State(
    waiting=jnp.zeros(layout.requests, bool),
    request=jnp.full(slots, NOBODY, jnp.int32),
    tokens=jnp.zeros(slots, jnp.int32),
    running=jnp.zeros(slots, bool),
    closing=jnp.zeros(slots, jnp.int32),
    forced=jnp.zeros(slots, jnp.int32),
    hidden=jnp.zeros((slots, width), config.compute_dtype),
    pages=jnp.full((slots, layout.pages_of_response), NOBODY, jnp.int32),
    preempted=jnp.int32(0),
    prompts=Prompts(
      pages=jnp.zeros((layout.prompts, layout.pages_of_prompt), jnp.int32),
      length=jnp.ones(layout.prompts, jnp.int32),
      hidden=jnp.zeros((layout.prompts, width), config.compute_dtype),
    ),
    prompt_pools=pool(layout.prompt_pages),
    response_pools=pool(layout.response_pages),
    scratch=tuple(
      paged.empty_scratch(config, pages, readers, layout.block)
      for pages, readers in (
        (layout.prompt_pages, layout.readers),
        (layout.response_pages, 1),
      )
    ),
  )


def vacant(state: State) -> State:
  """The state with nobody in it; what a cancelled session left is let go."""
  return dataclasses.replace(
    state,
    waiting=np.zeros(state.waiting.shape, bool),
    running=np.zeros(state.running.shape, bool),
    preempted=np.zeros(state.preempted.shape, np.int32),
  )


def no_requests(layout: Layout) -> Requests:
  """Rows to fill in, NumPy arrays."""
  count = layout.requests
  whole = lambda dtype: np.zeros(count, dtype)
  return Requests(
    arrival=whole(np.int32),
    is_new=whole(bool),
    is_cancelled=whole(bool),
    prompt=whole(np.int32),
    column=whole(np.int32),
    cap=whole(np.int32),
    budget=whole(np.int32),
    closing=whole(np.int32),
    forced=whole(np.int32),
    offset=whole(np.int32),
    key=np.zeros((count, 2), np.uint32),
    temperature=whole(np.float32),
    rules=Rules(
      **{
        name: whole(np.int32 if name == 'top_k' else np.float32)
        for name in layout.rules
      }
    ),
  )
