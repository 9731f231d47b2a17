"""The sizes that a sampler is compiled for."""

import os

import jax

from lrm_jax.models import cache
from lrm_jax.sampler.state import Layout

# Rounds of a chunk, at most.
ROUNDS = 4
# Rows of a step, at least: with fewer, products add up in another order on a
# CPU, and samples would depend on how many there are.
FEWEST_ROWS = 16


def default_lanes(slots: int) -> int:
  """One a core on a CPU, while each has 64 slots; else one."""
  if jax.default_backend() != 'cpu':
    return 1
  # Those that this process may use, where the system says so.
  known = hasattr(os, 'sched_getaffinity')
  cores = len(os.sched_getaffinity(0)) if known else os.cpu_count()
  return max(1, min(cores, slots // 64))


def make_layout(
  *,
  samples: int,
  fewest_samples: int,
  slots: int,
  max_prompt_tokens: int,
  max_tokens: int,
  kv_tokens: int,
  at_once: int,
  **others,
) -> Layout:
  """The sizes that follow from what a `Sampler` is given; see there.

  `others` are fields of `Layout` as they are.
  """
  rows = max(slots, FEWEST_ROWS)
  # Twice as many groups as decode at the same time, so that the next ones are
  # there when the last samples of a group take long.
  prompts = 2 * -(-slots // fewest_samples) + 2
  if at_once:
    # A response that goes on is a prompt of its own.
    prompts, max_prompt_tokens = slots + prompts, max_prompt_tokens + max_tokens
    max_tokens = min(at_once, max_tokens)
  widths = [rows]
  while widths[0] % 2 == 0 and widths[0] // 2 >= FEWEST_ROWS:
    widths.insert(0, widths[0] // 2)
  longest = -(-max_tokens // cache.PAGE)
  longest_prompt = -(-max_prompt_tokens // cache.PAGE)
  pages, prompt_pages = slots * longest, prompts * longest_prompt
  if kv_tokens:
    room = -(-kv_tokens // cache.PAGE)
    pages = min(pages, max(room, longest))
    prompt_pages = min(prompt_pages, max(room, longest_prompt))
  return Layout(
    slots=rows,
    limit=slots,
    readers=samples,
    requests=max(4 * rows, samples),
    prompts=slots + prompts,
    prompt_pages=prompt_pages,
    response_pages=pages,
    max_prompt=max_prompt_tokens,
    max_tokens=max_tokens,
    rounds=ROUNDS,
    widths=tuple(widths),
    **others,
  )
