"""Prompts to responses: `Sampler.generate`."""

import contextlib
import copy
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from lrm_jax import mesh as mesh_lib
from lrm_jax import rng
from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.sampler import closing, decode, decode_sharding, lane, run, spread
from lrm_jax.sampler import session as session_lib
from lrm_jax.sampler.block import Block
from lrm_jax.sampler.draw import NO_RULES
from lrm_jax.sampler.layout import default_lanes, make_layout
from lrm_jax.sampler.samples import Samples, find_first
from lrm_jax.sampler.session import OnEnd, Session
from lrm_jax.sampler.stops import Stops
from lrm_jax.sampler.truncation_rules import Rules


class Sampler:
  """Samples from a model; parameters are an argument, not state.

  Few programs are compiled, whatever is asked for: a chunk of decoding, and a
  prefill for each of up to three prompt lengths. Since random numbers depend on
  the problem and the sample only, and no row of a step on another, so do the
  responses. `part` makes others of the same programs.

  Args:
    config: the architecture.
    samples: G, responses per prompt.
    slots: W, responses that are decoded at the same time.
    max_prompt_tokens: P, room for each prompt.
    max_tokens: T, room for each response.
    fewest_samples: of any `part`; None for `samples`.
    eos_ids: ids that end a response.
    pad_id: fills responses after their end.
    think_close_ids: the tokens of `</think>`.
    round_tokens: decode steps between two looks at who is done; a power of
      two, at most 32.
    kv_tokens: room for the keys and values of all responses that are
      decoded at the same time, and as much for prompts; 0 for as much as there
      can be. With less, samples wait, or are begun again, when it is full.
    kv_dtype: of the keys and values that are kept: compute, bfloat16, int8.
    lanes: engines that share the slots and run side by side; 0 for one on
      an accelerator, and on a CPU for one a core while each has 64 slots.
    ending_ids: what is forced when a thinking budget is spent, with
      `think_close_ids` in it; without any, there are no budgets.
    stops: texts that end a response as well.
    rules: of truncation, one number for all requests; which of them are on is
      compiled in. See `truncation_rules`.
    most: ids that they keep at most, see `truncation.truncate`.
    keep_sets: whether to return `kept_ids`.
    at_once: tokens that a response is given by one call at most, if it may go
      on in another; 0 for all of them in one.
    mesh: of devices that share the slots; `lanes` is not looked at then.
      Parameters may be divided among them in any way: each lane is brought
      all of them, once a session.
    tensor: devices of the mesh that share a lane, its weights, keys and
      values; they must be of one process.

  Attributes:
    mesh: of lanes, see `decode_sharding.lanes_of`; None on one device.
    lanes: engines, of all processes.
    layout: what each of them is compiled for.

  Raises:
    UserError: `tensor` does not divide the devices or the model.
  """

  def __init__(
    self,
    config: ModelConfig,
    *,
    samples: int,
    slots: int,
    max_prompt_tokens: int,
    max_tokens: int,
    eos_ids: Sequence[int],
    pad_id: int,
    think_close_ids: Sequence[int],
    fewest_samples: int | None = None,
    round_tokens: int = 8,
    kv_tokens: int = 0,
    kv_dtype: str = 'compute',
    lanes: int = 0,
    ending_ids: Sequence[int] = (),
    stops: Stops | None = None,
    rules: Rules = NO_RULES,
    most: int | None = None,
    keep_sets: bool = False,
    at_once: int = 0,
    mesh: Mesh | None = None,
    tensor: int = 1,
  ):
    """Fixes what is compiled in; see above."""
    self.config, self.pad_id = config, pad_id
    self.slots, self.samples = slots, samples
    self.max_prompt_tokens, self.max_tokens = max_prompt_tokens, max_tokens
    self.mesh = _mesh_of_lanes(config, mesh, tensor)
    on_one = lanes if lanes else default_lanes(slots)
    self.lanes = on_one if mesh is None else len(self.mesh.devices)
    # Buffers would be in the way of an update where memory is scarce.
    self._keeps = mesh_lib.platform_of(mesh) == 'cpu'
    self.layout = make_layout(
      platform=mesh_lib.platform_of(mesh),
      tensor=tensor,
      samples=samples,
      fewest_samples=samples if fewest_samples is None else fewest_samples,
      slots=-(-slots // self.lanes),
      max_prompt_tokens=max_prompt_tokens,
      max_tokens=max_tokens,
      at_once=at_once,
      eos_ids=tuple(eos_ids),
      close_ids=tuple(think_close_ids),
      ending_ids=tuple(ending_ids),
      rules=tuple(n for n in Rules._fields if getattr(rules, n) is not None),
      most=most,
      kept=self._size(most) if keep_sets else 0,
      round_tokens=round_tokens,
      kv_tokens=-(-kv_tokens // self.lanes),
      kv_dtype=kv_dtype,
    )
    self.rules, self.stops = rules, stops
    self.think_close_ids = tuple(think_close_ids)
    self._states = [None] * (self.lanes if mesh is None else 1)
    self._stats: list[lane.Stats] = []
    self._is_warm = threading.Event()
    self._turn = threading.Lock()

  @property
  def stats(self) -> lane.Stats:
    """Counts of the last session, all lanes together."""
    return lane.total(self._stats)

  def part(self, *, samples: int, max_tokens: int) -> 'Sampler':
    """A sampler of fewer samples or shorter responses than this one.

    It runs the same programs in the same buffers, so of the two only one may
    have an open session.
    """
    for name, value, most in (
      ('samples', samples, self.layout.readers),
      ('max_tokens', max_tokens, self.max_tokens),
    ):
      if not 0 < value <= most:
        raise ValueError(f'{name}={value}; this sampler has room for {most}')
    part = copy.copy(self)
    part.samples, part.max_tokens = samples, max_tokens
    return part

  def _size(self, most: int | None) -> int:
    """Ids that truncation tells apart."""
    size = self.config.vocab_size
    return size if most is None else min(most, size)

  @property
  def groups(self) -> int:
    """Prompts whose samples fill the slots."""
    return max(1, self.slots // self.samples)

  def generate(
    self,
    params: Params,
    prompt_ids: np.ndarray,
    prompt_length: np.ndarray,
    **options,
  ) -> Samples:
    """G responses to each prompt.

    Args:
      params: the model's parameters.
      prompt_ids: `[N, P]` int32, right-padded.
      prompt_length: `[N]` int32.
      **options: see `add`.

    Returns:
      The responses, in the order of the prompts.

    Raises:
      UserError: a prompt has an id that the model has no embedding for.
    """
    with self.open(params) as session:
      number = self.add(session, prompt_ids, prompt_length, **options)
      return session.wait(number)

  @contextlib.contextmanager
  def open(self, params: Params) -> Iterator[Session]:
    """A session for `add`; one at a time, of a sampler and its parts."""
    if not self._turn.acquire(blocking=False):
      raise ValueError('a session of this sampler is open; close it first')
    try:
      blocks = self._start(params)
      session = Session(run.Run(blocks, self.samples), self._describe)
      try:
        yield session
      finally:
        session.close()
        states = [each.close() for each in blocks]
      if self._keeps:
        # For the next one.
        self._states[:] = states
    finally:
      self._turn.release()

  def _start(self, params: Params) -> list[Block]:
    """Blocks that have the buffers of the last session, where it left any."""
    states = self._states.copy()
    self._states[:] = [None] * len(states)
    if self.mesh is None:
      turned = decode.turn(self.config, params)
      programs = spread.One(self.config, self.layout, params, turned)
    else:
      programs = spread.Spread(self.config, self.layout, params, self.mesh)
    make = functools.partial(lane.Lane, self.config, self.layout, self.stops)
    blocks = [
      Block(
        self.layout,
        programs,
        [make() for _ in range(programs.lanes)],
        state,
      )
      for state in states
    ]
    if not self._is_warm.is_set():
      blocks[0].warm()
      self._is_warm.set()
    self._stats = [each.stats for block in blocks for each in block.lanes]
    return blocks

  def add(
    self,
    session: Session,
    prompt_ids: np.ndarray,
    prompt_length: np.ndarray,
    *,
    problem_ids: Sequence[str],
    caps: np.ndarray | int,
    key: jax.Array,
    temperature: np.ndarray | float = 1.0,
    budgets: np.ndarray | int = closing.ENDLESS,
    rules: Rules | None = None,
    on_end: OnEnd | None = None,
    so_far: Samples | None = None,
    tokens: int | None = None,
  ) -> int:
    """Asks for G responses to each prompt; `session.wait` has them.

    Args:
      session: of this sampler.
      prompt_ids: `[N, P]` int32, right-padded.
      prompt_length: `[N]` int32.
      problem_ids: N names; with the key they fix the random numbers.
      caps: tokens, `[N]` or one for all; at most `max_tokens`. A traced value:
        any cap runs the same program.
      key: of the stream, such as `rng.stream(seed, 'sample', step)`.
      temperature: `[N]` or one for all; 0 takes the most likely token.
      budgets: tokens that a response may think, `[N]` or one for all; then
        `ending_ids` are forced. Traced, as caps are.
      rules: numbers of the truncation rules that are on, `[N]` or one for all;
        those of the sampler where there are none.
      on_end: told of each response when it is over, while others are sampled:
        its (prompt, sample) and its ids. In any order.
      so_far: responses that were begun before, under any parameters, with the
        same key. They go on as they would have; those that are over stay.
      tokens: what a response is given now at most, `at_once` or fewer.

    Returns:
      The number that `session.wait` takes.

    Raises:
      UserError: a prompt has an id that the model has no embedding for.
    """
    caps, budgets = (
      np.broadcast_to(np.asarray(x, np.int32), len(problem_ids))
      for x in (caps, budgets)
    )
    temperatures = np.broadcast_to(temperature, len(caps))
    numbers = self._numbers(self.rules if rules is None else rules, len(caps))
    hashes = rng.name_hashes(list(problem_ids))
    keys = rng.sample_keys(key, hashes, self.samples)
    samples = self.nothing(len(caps)) if so_far is None else so_far.copy()
    most = self.layout.max_tokens if tokens is None else tokens
    self._check(prompt_ids, prompt_length, caps, budgets, samples, most)

    def request(at: tuple[int, int], before: np.ndarray) -> lane.Request:
      row = at[0]
      return lane.Request(
        index=0,
        key=keys[at],
        cap=min(int(caps[row]) - len(before), most),
        temperature=float(temperatures[row]),
        rules=tuple(numbers[row].tolist()),
        budget=int(budgets[row]) - len(before),
        before=tuple(before.tolist()),
        forced=int(samples.forced[at].sum()),
      )

    prompts = [x[:n] for x, n in zip(prompt_ids, prompt_length, strict=True)]
    jobs = session_lib.jobs(prompts, caps, samples, request, most)
    return session.add(jobs, samples, on_end)

  def _check(
    self, prompt_ids, prompt_length, caps, budgets, samples, most
  ) -> None:
    largest = int(prompt_ids.max(initial=0))
    if largest >= self.config.vocab_size:
      raise UserError(
        f'a prompt has the token id {largest}, the model only vocab_size='
        f'{self.config.vocab_size}; leave that token out of the text'
      )
    if prompt_length.min(initial=1) < 1:
      raise ValueError('a prompt is empty; give it a token at least')
    if samples.kept_ids.shape[-1] != self.layout.kept:
      raise ValueError('kept sets of responses so far are not known')
    if budgets.min(initial=closing.ENDLESS) < closing.ENDLESS:
      if not self.layout.ending_ids:
        raise ValueError('budgets need a sampler with `ending_ids`')
    whole = prompt_length[:, None] + samples.length
    goes_on = samples.truncated & (samples.length < caps[:, None])
    for name, values, room in (
      ('caps', caps, self.max_tokens),
      ('prompts', prompt_length, self.max_prompt_tokens),
      ('prompts with what follows', whole * goes_on, self.layout.max_prompt),
      ('tokens', np.array([most]), self.layout.max_tokens),
    ):
      if values.max(initial=0) > room:
        raise ValueError(
          f'{name} reach {values.max()} tokens; this sampler has room for '
          f'{room}'
        )

  def _numbers(self, rules: Rules, count: int) -> np.ndarray:
    """`[N, rules that are on]`."""
    given = {n: x for n, x in rules._asdict().items() if x is not None}
    if given.keys() != set(self.layout.rules):
      raise ValueError(
        f'rules {sorted(given)} are not those that this sampler was made for: '
        f'{sorted(self.layout.rules)}'
      )
    columns = [np.broadcast_to(given[n], count) for n in self.layout.rules]
    return np.array(columns, np.float64).reshape(-1, count).T

  def nothing(self, count: int) -> Samples:
    """Responses without a token to `count` prompts."""
    shape = count, self.samples
    room = (*shape, self.max_tokens)
    return Samples(
      response_ids=np.full(room, self.pad_id, np.int32),
      logp=np.zeros(room, np.float32),
      length=np.zeros(shape, np.int32),
      truncated=np.ones(shape, bool),
      think_closed=np.zeros(shape, bool),
      thinking_length=np.zeros(shape, np.int32),
      forced=np.zeros(room, bool),
      kept_mass=np.ones(room, np.float32),
      kept_ids=np.full((*room, self.layout.kept), -1, np.int32),
    )

  def _describe(self, samples: Samples) -> Samples:
    closed, thinking = find_first(
      samples.response_ids, samples.length, self.think_close_ids
    )
    return dataclasses.replace(
      samples, think_closed=closed, thinking_length=thinking
    )


def _mesh_of_lanes(
  config: ModelConfig, mesh: Mesh | None, tensor: int
) -> Mesh | None:
  if mesh is None:
    if tensor != 1:
      raise UserError(
        f'sampler.tensor={tensor} devices cannot share a lane where there is '
        'only one; set it to 1'
      )
    return None
  lanes = decode_sharding.lanes_of(list(mesh.devices.flat), tensor)
  # Raises before anything is loaded or compiled.
  decode_sharding.stacked_specs(config, lanes)
  return lanes
