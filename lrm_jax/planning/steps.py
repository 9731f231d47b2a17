"""How long a step takes at best, from what its programs cost: a roofline.

Each part takes as long as the slowest of three: products at the peak of the
chip, memory at its full rate, links at theirs, all of them busy at once.
Nothing overlaps between parts, and all overlaps within one (Williams et al.
2009, doi 10.1145/1498765.1498785). So a real step is slower, and one that is
not has been counted wrong. Links are flattered most where few chips talk to
each other, or the ends of a small grid are not joined.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lrm_jax import flops, policy, updating
from lrm_jax.chips import Chip
from lrm_jax.models import cache
from lrm_jax.planning import memory
from lrm_jax.planning.compiling import Run
from lrm_jax.planning.costs import Cost
from lrm_jax.sampler import lane, programs


class Workload(NamedTuple):
  """Lengths in tokens; all samples are alike."""

  prompt: int
  response: int


class Time(NamedTuple):
  """Seconds that a part of a step needs of each resource of a chip."""

  compute: float
  memory: float
  links: float

  @property
  def bound(self) -> float:
    """The slowest."""
    return max(self)

  @property
  def by(self) -> str:
    """Its name."""
    return self._fields[self.index(self.bound)]


def time(cost: Cost, chip: Chip) -> Time:
  """Of what a program costs."""
  return Time(
    cost.flops / chip.flops,
    cost.hbm / chip.hbm_rate,
    cost.links / chip.link_rate,
  )


class Packed(NamedTuple):
  """A mini-batch whose samples are all alike.

  Attributes:
    rows: that hold it.
    micro_batches: that these make.
    lengths: of its segments, in tokens.
    starts: tokens that stand before each of them, and are not computed again.
  """

  rows: int
  micro_batches: int
  lengths: list[int]
  starts: list[int]


def pack(run: Run, work: Workload) -> Packed:
  """The rows of a mini-batch; they hold whole samples only.

  Where samples of a group share their prompt, a row holds one group here.
  """
  config = run.config.train
  groups = config.problems // config.mini_batches
  samples = groups * config.samples
  if updating.shares_prompts(run.config):
    in_row = max(1, (config.row_length - work.prompt) // work.response)
    rows = groups * math.ceil(config.samples / in_row)
    lengths = [work.prompt - 1] * rows + [work.response + 1] * samples
    starts = [0] * rows + [work.prompt - 1] * samples
  else:
    in_row = max(1, config.row_length // (work.prompt + work.response))
    rows = math.ceil(samples / in_row)
    lengths, starts = [work.prompt + work.response] * samples, [0] * samples
  count = max(math.ceil(rows / config.rows), math.ceil(groups / config.groups))
  return Packed(rows, count, lengths, starts)


def update(
  run: Run, chip: Chip, work: Workload, fixed: Cost, each: Cost
) -> dict[str, Any]:
  """All optimizer updates of a step; not the pass of `updating.score`.

  Args:
    run: the run.
    chip: of each device.
    work: its samples.
    fixed: what an update costs beside its micro-batches.
    each: a micro-batch.

  Returns:
    Seconds by resource, and of the bound; `mfu_bound`, model FLOPs over what
    all chips could do in that time, and `mfu_compute`, likewise if products
    were all there is; `sent_bytes` of a chip, by kind of collective.
  """
  config = run.config.train
  packed, parts = pack(run, work), config.mini_batches * config.passes
  cost = fixed.plus(each, packed.micro_batches)
  took = time(cost, chip)
  extra = run.recipe.needs_reference + run.recipe.needs_statistics
  model = flops.update(
    run.model,
    packed.lengths,
    starts=packed.starts,
    logits=config.problems
    // config.mini_batches
    * config.samples
    * work.response,
    lora=policy.read(run.config) if run.config.lora.rank else None,
    forwards=int(extra),
  )
  share = lambda seconds: model / (seconds * chip.flops * run.mesh.size)
  return {
    'micro_batches': packed.micro_batches * parts,
    'compute_seconds': took.compute * parts,
    'memory_seconds': took.memory * parts,
    'links_seconds': took.links * parts,
    'seconds': took.bound * parts,
    'bound_by': took.by,
    'model_flops': model * parts,
    'mfu_bound': share(took.bound),
    'mfu_compute': share(took.compute),
    'sent_bytes': {k: n * parts for k, n in cost.by_kind.items() if n},
  }


def sampling(
  run: Run, chip: Chip, work: Workload, costs: Mapping[str, Cost]
) -> dict[str, Any]:
  """All samples of a step: weights are gathered, prompts read, tokens decoded.

  A step of decoding reads all weights and, of each of W slots, the prompt and
  half of a response, and the sums over each page that its queries leave and
  meet again. There are as many slots as the config has, or as whole responses
  have room; all of them are busy until the last samples.

  Args:
    run: the run.
    chip: of each device.
    work: the samples.
    costs: of the programs `gather`, of `prefill` for one batch of prompts, and
      of `decode` for a round.

  Returns:
    Seconds of each part; `token`, milliseconds of a step of decoding by
    resource.
  """
  config, layout = run.config.train, run.layout
  lanes, _ = run.lanes.devices.shape
  mine = math.ceil(config.problems * config.samples / lanes)
  room = layout.response_pages // math.ceil(work.response / cache.PAGE)
  slots = min(layout.limit, mine, room)
  steps = math.ceil(mine / slots) * work.response
  sent = costs['decode'].links / layout.round_tokens
  token = decode(run, chip, work, slots, sent)
  batch = lane.prefill_size(lane.prefill_widths(layout.max_prompt)[-1])
  batches = math.ceil(math.ceil(config.problems / lanes) / batch)
  found = {
    'gather_seconds': time(costs['gather'], chip).bound,
    'prefill_seconds': batches * time(costs['prefill'], chip).bound,
    'decode_seconds': steps * token.bound,
  }
  return found | {
    'slots': slots,
    'decode_steps': steps,
    'token': {name: 1e3 * x for name, x in token._asdict().items()},
    'bound_by': token.by,
    'seconds': sum(found.values()),
  }


def decode(
  run: Run, chip: Chip, work: Workload, slots: int, sent: float
) -> Time:
  """One token of each slot; a chip sends so many bytes for it."""
  model, tensor = run.model, run.lanes.shape['tensor']
  token = cache.page_bytes(model, run.layout.kv_dtype) / cache.PAGE
  # Largest score, sum and values of each query head: written, and read.
  sums = 2 * 4 * model.n_layers * model.n_heads * (model.head_dim + 2)
  live = slots * (work.prompt / run.config.train.samples + work.response / 2)
  own = memory.held(programs.weight_shapes(model, run.lanes).turned)
  read = own + live * (token + sums / cache.PAGE) / tensor
  return Time(
    slots * flops.per_token(model) / tensor / chip.flops,
    read / chip.hbm_rate,
    sent / chip.link_rate,
  )


def whole(
  run: Run,
  work: Workload,
  sampled: Mapping[str, Any],
  updated: Mapping[str, Any],
) -> dict[str, float]:
  """A step of RL: seconds, tokens a second, and chip hours."""
  config = run.config.train
  seconds = sampled['seconds'] + updated['seconds']
  tokens = config.problems * config.samples * work.response
  return {
    'seconds': seconds,
    'tokens_per_second': tokens / seconds,
    'tokens_per_second_per_chip': tokens / seconds / run.mesh.size,
    'chip_hours': seconds * run.mesh.size / 3600,
  }
