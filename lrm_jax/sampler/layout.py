"""The sizes that a sampler is compiled for."""

import os

import jax

from lrm_jax.errors import UserError
from lrm_jax.models import cache
from lrm_jax.sampler.state import Layout

# Rounds of a chunk, at most.
ROUNDS = 4
# Pages that an accelerator reads at a time: 16384 tokens.
BLOCK = 512
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
  platform: str = 'cpu',
  tensor: int = 1,
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

  `platform` is what it is compiled for, and `others` are fields of `Layout` as
  they are.

  Raises:
    UserError: `kv_tokens` has no room for one prompt, or for one response. With
      room for one, all are sampled, one after the other if need be.
  """
  # Of the devices of a lane each draws for as many.
  rows = -(-max(slots, FEWEST_ROWS) // tensor) * tensor
  # Twice as many groups as decode at the same time, so that the next ones are
  # there when the last samples of a group take long.
  prompts = 2 * -(-slots // fewest_samples) + 2
  if at_once:
    # A response that goes on is a prompt of its own.
    prompts, max_prompt_tokens = slots + prompts, max_prompt_tokens + max_tokens
    max_tokens = min(at_once, max_tokens)
  widths = [rows]
  while _can_halve(widths[0], platform, tensor):
    widths.insert(0, widths[0] // 2)
  longest = -(-max_tokens // cache.PAGE)
  longest_prompt = -(-max_prompt_tokens // cache.PAGE)
  pages, prompt_pages = slots * longest, prompts * longest_prompt
  if kv_tokens:
    room = kv_tokens // cache.PAGE
    _check_room(kv_tokens, max_tokens, max_prompt_tokens)
    pages = min(pages, room)
    prompt_pages = min(prompt_pages, room)
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
    block=0 if platform == 'cpu' else min(BLOCK, pages),
    **others,
  )


def _can_halve(rows: int, platform: str, tensor: int) -> bool:
  """Whether rounds of half as many rows are worth a program of their own.

  Only on a CPU. On others a step takes as long as reading all weights does,
  and each width is all layers compiled once more.
  """
  is_even = rows % (2 * tensor) == 0
  return platform == 'cpu' and is_even and rows // 2 >= FEWEST_ROWS


def _check_room(kv_tokens: int, response: int, prompt: int) -> None:
  """Refuses a lane in which the longest response or prompt has no room."""
  needed = -(-max(response, prompt) // cache.PAGE) * cache.PAGE
  if kv_tokens < needed:
    raise UserError(
      f'sampler.kv_tokens leaves {kv_tokens} tokens to each lane; a response '
      f'may have {response} and a prompt {prompt}, so {needed} are needed: '
      'raise it, have fewer lanes, or set it to 0'
    )
