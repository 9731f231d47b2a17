"""An engine's state with a slot for every sample, for tests of attention."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from lrm_jax.models import cache
from lrm_jax.sampler import decode
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.draw import NO_RULES

ROUND = 4


def make_layout(batch, group, prompt_tokens, tokens):
  """Room for `batch * group` samples at a time, and no more."""
  rows = batch * group
  page = cache.PAGE
  tokens = -(-tokens // ROUND) * ROUND
  return state_lib.Layout(
    slots=rows,
    limit=rows,
    readers=group,
    requests=rows,
    prompts=batch,
    prompt_pages=batch * -(-prompt_tokens // page),
    response_pages=rows * -(-tokens // page),
    max_prompt=prompt_tokens,
    max_tokens=tokens,
    round_tokens=ROUND,
    rounds=1,
    widths=(rows,),
    eos_ids=(),
    close_ids=(),
    ending_ids=(),
    rules=(),
    most=None,
    kept=0,
    kv_dtype='compute',
  )


def make_requests(layout):
  """Row r is sample r % G of prompt r // G, in the slot of that number."""
  rows = jnp.arange(layout.requests, dtype=jnp.int32)
  nothing = jnp.zeros_like(rows)
  return state_lib.Requests(
    arrival=rows,
    is_new=nothing > 0,
    is_cancelled=nothing > 0,
    prompt=rows // layout.readers,
    column=rows % layout.readers,
    cap=nothing + layout.max_tokens,
    budget=nothing + layout.max_tokens,
    closing=nothing,
    forced=nothing,
    offset=nothing,
    key=jnp.zeros((len(rows), 2), jnp.uint32),
    temperature=nothing.astype(jnp.float32),
    rules=NO_RULES,
  )


def empty(config, layout):
  """Every sample waits; page p of prompt b is number b * pages + p."""
  state = state_lib.empty(config, layout)
  return dataclasses.replace(state, waiting=jnp.ones(layout.requests, bool))


def prompt_pages(layout):
  count = layout.pages_of_prompt
  return np.arange(layout.prompts * count, dtype=np.int32).reshape(-1, count)


def prefilled(config, layout, params, ids, length):
  """The state with `[B, P]` prompts of `length` `[B]` in it."""
  room = layout.pages_of_prompt * cache.PAGE - ids.shape[1]
  return decode.prefill(
    config,
    layout,
    params,
    empty(config, layout),
    jnp.pad(ids, ((0, 0), (0, room))),
    jnp.asarray(length, jnp.int32),
    jnp.arange(layout.prompts),
    prompt_pages(layout),
  )
