"""The jitted RL update: packed rows in, one optimizer step out.

Per micro-batch: forward pass over packed rows, log-probabilities gathered
back to `[Q, G, T]`, the recipe's per-token loss, a sum weighted by the
aggregate of the *whole* mini-batch. So the loss and its gradient do not depend
on how the mini-batch is cut or packed.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lrm_jax import guard, kept_sets, offloading, packing, sharding, spikes
from lrm_jax import mesh as mesh_lib
from lrm_jax import policy as policy_lib
from lrm_jax.models import feed_forward, output_head, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives.recipe import Recipe
from lrm_jax.structs import Array, TokenTerms, TrainState

Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
  """What the loss of a mini-batch needs beside the rows; `[B, G, T]` each.

  Attributes:
    old_logp: log-probabilities before the step: of the policy that sampled,
      or of the trainer's graph.
    advantages: of each token; the loss is a sum over them, see `Recipe.total`.
    mask: 1 on tokens that are trained.
    stale: `[B, G]`, the first tokens that older parameters have sampled.
    thinking: `[B, G]`, tokens before `</think>`; the others are the answer's.
    kept_ids: as in `Rollouts`; log-probabilities are over these sets then.
  """

  old_logp: Array
  advantages: tuple[Array, ...]
  mask: Array
  stale: Array
  thinking: Array
  kept_ids: Array | None = None

  @property
  def advantage(self) -> Array:
    """All of them together, `[B, G, T]`."""
    return functools.reduce(operator.add, self.advantages)


def make_score(
  config: ModelConfig,
  *,
  temperature: float,
  chunk: int = 4096,
  mesh: Mesh | None = None,
) -> Callable[..., tuple[Array, Array]]:
  """Builds `score(params, packed, mask, kept_ids=None) -> logp, entropy`.

  Nats, of the policy before the step: of responses that nobody sampled as they
  now are, and where a recipe asks. 0 outside the mask.
  """
  forward = functools.partial(
    response_logp, config, temperature=temperature, chunk=chunk
  )

  def score(
    params: Any,
    packed: packing.PackedBatch,
    mask: Array,
    kept_ids: Array | None = None,
  ) -> tuple[Array, Array]:
    found = _score(forward, params, packed, mask, kept_ids)
    return tuple(mesh_lib.constrain(x, None, None, None) for x in found)

  return jax.jit(mesh_lib.divided(mesh, score))


def make_update(
  config: ModelConfig,
  recipe: Recipe,
  optimizer: optax.GradientTransformation,
  *,
  temperature: float,
  chunk: int = 4096,
  load_balance: float = 0.0,
  combine: Callable[..., Any] = policy_lib.whole,
  mesh: Mesh | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Builds `update(state, ref_params, packed, targets, frozen=None)`.

  It returns the new state and metrics. The state is donated. `ref_params` is
  the frozen reference policy, or None for a recipe that does not look at one.
  `frozen` is what the policy has beside the parameters of the state; it gets
  no gradient and may be the reference. The step counter is the caller's: a
  step may have several mini-batches. What the optimizer keeps and `ref_params`
  may be in the memory of the host, and then stay there (see `offloading.py`).

  Args:
    config: the architecture.
    recipe: loss and regularizers.
    optimizer: applied once per call.
    temperature: the one the samples were drawn with.
    chunk: tokens per chunk of the output head.
    load_balance: coefficient of `feed_forward.load_balance`, over all tokens
      of the mini-batch; if positive, a forward pass over it comes first.
    combine: `state.params, frozen -> params` of the model; called once.
    mesh: of the devices that hold the state as `sharding.state_specs` says,
      and the rows as `sharding.batch_specs` does.

  Returns:
    The jitted function. Metrics are means over trained tokens, except
    `logp_gap_max`: the largest |log-probability here - `old_logp`| of tokens
    that are not stale, which is rounding error as long as the parameters are
    those of `old_logp`; `skipped`: 1 if the loss, the norm of the gradient or
    the state after it is not finite, and the state is what it was; and what
    `spikes.counted` says.
  """
  forward = functools.partial(
    response_logp, config, temperature=temperature, chunk=chunk
  )

  def update(
    state: TrainState,
    ref_params: Any,
    packed: packing.PackedBatch,
    targets: Targets,
    frozen: Any = None,
  ) -> tuple[TrainState, Metrics]:
    kept_ids = targets.kept_ids
    targets = dataclasses.replace(targets, kept_ids=None)
    weights = recipe.weights(targets.mask)
    params, pull_back = jax.vjp(
      lambda trained: combine(trained, frozen), state.params
    )
    focus = {}
    if recipe.needs_statistics:
      logp, _ = _score(forward, params, packed, targets.mask, kept_ids)
      focus = recipe.focus(
        logp, targets.old_logp, targets.advantage, targets.mask
      )

    loads, balance = None, {}
    if load_balance:
      routing = _routing(config, params, packed)
      loads = feed_forward.loads(routing, config.experts.used)
      balance['load_balance'] = feed_forward.load_balance(loads, routing)

    def micro_batch(index, carry):
      rows, groups, offsets = jax.tree.map(
        lambda x: x[index], (packed.rows, packed.groups, packed.offsets)
      )
      part = _take_groups((targets, weights, focus), groups)
      sets = kept_sets.place(kept_ids, rows, groups, offsets, part[0].mask)
      (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(
        params, ref_params, rows, offsets, sets, *part
      )
      # Of what is trained; here, since sums of these may be much smaller.
      (grads,) = pull_back(grads)
      grads = sharding.reduce(grads)
      gap = jnp.maximum(carry[1].pop('gap'), sums.pop('gap'))
      grads, sums = jax.tree.map(jnp.add, carry, (grads, sums))
      return grads, sums | {'gap': gap}

    def loss(params, ref_params, rows, offsets, sets, part, weights, focus):
      logp, entropy, routing = forward(params, rows, offsets, part.mask, sets)
      ref_logp = logp
      if recipe.needs_reference:
        # Here, so that the backward pass has the room of what was fetched.
        fetched = offloading.fetch(ref_params)
        ref_logp, *_ = forward(fetched, rows, offsets, part.mask, sets)
      terms = TokenTerms(
        logp=logp,
        old_logp=part.old_logp,
        ref_logp=jax.lax.stop_gradient(ref_logp),
        entropy=entropy,
        advantage=part.advantage,
        mask=part.mask,
        focus=jnp.ones_like(logp),
        answer=answers(part.thinking, part.mask),
      )
      total = recipe.total(terms, part.advantages, weights, focus)
      if load_balance:
        total += load_balance * feed_forward.load_balance(loads, routing)
      return total, _sums(total, terms, part.stale)

    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, jnp.float32), state.params
    )
    start = (
      sharding.constrain(zeros, slots=True),
      {name: jnp.float32(0) for name in SUMS},
    )
    grads, sums = jax.lax.fori_loop(0, packed.count, micro_batch, start)
    numbers = _means(sums) | {'grad_norm': optax.tree.norm(grads)}
    is_good = guard.is_finite(numbers['loss'], numbers['grad_norm'])
    new_state, is_done = _step(optimizer, is_good, grads, state)
    numbers |= {'skipped': 1.0 - is_done} | spikes.counted(state, new_state)
    return new_state, numbers | balance

  return jax.jit(mesh_lib.divided(mesh, update), donate_argnums=0)


def _step(
  optimizer: optax.GradientTransformation,
  is_good: Array,
  grads: Any,
  state: TrainState,
) -> tuple[TrainState, Array]:
  """What the optimizer makes of the gradients; nothing, if it is bad."""

  def fetch(state: TrainState) -> TrainState:
    slots = offloading.fetch(state.opt_state)
    return dataclasses.replace(state, opt_state=slots)

  def place(new: TrainState, old: TrainState) -> TrainState:
    new = guard.divided(new, old)
    slots = offloading.store(new.opt_state, old.opt_state)
    return dataclasses.replace(new, opt_state=slots)

  # XLA fetches as early as it can: from within a branch not before the
  # gradients are there, when activations have made room.
  return guard.guarded(
    is_good,
    functools.partial(guard.change, optimizer),
    grads,
    state,
    fetch=fetch,
    place=place,
  )


def answers(thinking: Array, mask: Array) -> Array:
  """`[B, G, T]`: 1 on trained tokens that do not think.

  Args:
    thinking: `[B, G]` tokens before `</think>`.
    mask: `[B, G, T]`, 1 on tokens that are trained.
  """
  is_answer = jnp.arange(mask.shape[-1]) >= jnp.asarray(thinking)[..., None]
  return jnp.where(is_answer, mask, 0)


SUMS = ('loss', 'tokens', 'kl', 'entropy', 'ratio', 'outside', 'gap')


def _sums(loss: Array, terms: TokenTerms, stale: Array) -> Metrics:
  """Sums over one micro-batch, by the names in SUMS."""
  logp, mask = jax.lax.stop_gradient(terms.logp), terms.mask
  # Outside the mask anything may stand, NaN too.
  change = jnp.where(mask > 0, logp - terms.old_logp, 0.0)
  fresh = jnp.arange(mask.shape[-1]) >= stale[..., None]
  ratio = jnp.exp(change)
  total = lambda x: jnp.sum(x * mask)
  return {
    'loss': loss,
    'tokens': jnp.sum(mask),
    'kl': total(logp - terms.ref_logp),
    'entropy': total(jax.lax.stop_gradient(terms.entropy)),
    'ratio': total(ratio),
    'outside': total(jnp.abs(ratio - 1.0) > 0.2),
    'gap': jnp.max(jnp.abs(change) * fresh, initial=0.0),
  }


def _means(sums: Metrics) -> Metrics:
  tokens = jnp.maximum(sums['tokens'], 1.0)
  return {
    'loss': sums['loss'],
    'trained_tokens': sums['tokens'],
    'kl': sums['kl'] / tokens,
    'entropy': sums['entropy'] / tokens,
    'ratio_mean': sums['ratio'] / tokens,
    'ratio_outside_0.2': sums['outside'] / tokens,
    'logp_gap_max': sums['gap'],
  }


def _take_groups(tree: Any, groups: Array) -> Any:
  """The groups of a micro-batch, `[Q, G, ...]`; absent ones become zeros."""
  is_there = (groups >= 0).astype(jnp.float32)

  def take(x: Array) -> Array:
    factor = is_there[(slice(None), *[None] * (jnp.ndim(x) - 1))]
    return x[jnp.maximum(groups, 0)] * factor

  return jax.tree.map(take, tree)


def _score(
  forward: Callable[..., Any],
  params: Any,
  packed: packing.PackedBatch,
  mask: Array,
  kept_ids: Array | None,
) -> tuple[Array, Array]:
  """(logp, entropy) `[B, G, T]` of a whole mini-batch, no gradient."""
  mask = jnp.asarray(mask)

  def micro_batch(index, found):
    rows, groups, offsets = jax.tree.map(
      lambda x: x[index], (packed.rows, packed.groups, packed.offsets)
    )
    part = _take_groups(mask, groups)
    sets = kept_sets.place(kept_ids, rows, groups, offsets, part)
    *values, _ = forward(params, rows, offsets, part, sets)
    # An absent group is written nowhere: no batch has a row beyond its last.
    place = jnp.where(groups >= 0, groups, mask.shape[0])
    put = lambda x, new: x.at[place].set(new, mode='drop')
    return jax.tree.map(put, found, tuple(values))

  packed = jax.tree.map(jnp.asarray, packed)
  zeros = jnp.zeros(mask.shape, jnp.float32)
  found = jax.lax.fori_loop(0, packed.count, micro_batch, (zeros, zeros))
  return jax.lax.stop_gradient(found)


def _routing(
  config: ModelConfig, params: Any, packed: packing.PackedBatch
) -> feed_forward.Routing:
  """How all tokens of a mini-batch were shared out, no gradient."""

  def micro_batch(index, found):
    rows = jax.tree.map(lambda x: x[index], packed.rows)
    _, kept = transformer.apply(config, params, *rows.inputs)
    return jax.tree.map(jnp.add, found, kept.routing)

  packed = jax.tree.map(jnp.asarray, packed)
  zeros = jnp.zeros((config.n_layers, config.experts.count), jnp.float32)
  found = jax.lax.fori_loop(
    0, packed.count, micro_batch, feed_forward.Routing(zeros, zeros)
  )
  return jax.lax.stop_gradient(found)


def response_logp(
  config: ModelConfig,
  params: Any,
  rows: packing.Rows,
  offsets: Array,
  mask: Array,
  sets: kept_sets.KeptSets | None,
  *,
  temperature: float,
  chunk: int,
) -> tuple[Array, Array, feed_forward.Routing | None]:
  """(logp, entropy) `[Q, G, T]` of the responses, 0 outside the mask; routing.

  With kept sets both are of the truncated law.
  The routing is of all tokens, prompts included.
  """
  hidden, kept = transformer.apply(config, params, *rows.inputs)
  logp, entropy = output_head.token_logp(
    config,
    params,
    hidden,
    jnp.roll(rows.tokens, -1, axis=-1),
    temperature=temperature,
    chunk=chunk,
    law=output_head.whole_law if sets is None else kept_sets.law,
    sets=sets,
  )

  def gather(values):
    found = packing.gather_responses(values, offsets, mask.shape[-1])
    return jnp.where(mask > 0, found, 0.0)

  return gather(logp), gather(entropy), kept.routing
