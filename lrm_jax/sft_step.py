"""The jitted supervised step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from lrm_jax import (
  guard,
  packing,
  policy,
  rng,
  sft_losses,
  sharding,
  spikes,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax.models import feed_forward, output_head, positions, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array, TrainState


def make_places(
  config: ml_collections.ConfigDict,
) -> Callable[[packing.Rows, Array], Array]:
  """`places(rows, step) -> [R, S]`: the positions that rows are trained at.

  Those of their tokens or, with a `position_limit`, a random subset of 0 ..
  limit - 1 for each sequence, so that the model meets positions beyond them.
  """
  limit = config.position_limit
  if not limit:
    return lambda rows, step: rows.positions

  def places(rows: packing.Rows, step: Array) -> Array:
    key = jax.random.fold_in(rng.stream(config.seed, 'positions'), step)
    return positions.randomised(key, rows.segment_ids, limit)

  return places


def of_run(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  optimizer: optax.GradientTransformation,
  combine: Callable[..., Any],
  mesh: Mesh | None,
):
  """`make_step` with the places, the load balance and the loss of a config."""
  places, loss = make_places(config), sft_losses.of_run(config)
  return make_step(
    model, optimizer, places, combine, config.load_balance, mesh, loss
  )


def make_step(
  model: ModelConfig,
  optimizer: optax.GradientTransformation,
  places: Callable[[packing.Rows, Array], Array],
  combine: Callable[..., Any] = policy.whole,
  load_balance: float = 0.0,
  mesh: Mesh | None = None,
  objective: sft_losses.Loss = sft_losses.cross_entropy,
):
  """Builds `step(state, rows, mask, frozen=None) -> state, numbers`.

  The state is donated; see `policy.Parts` for `frozen` and `combine`. Numbers:
  `loss`, `grad_norm`, `skipped` (1 if one of them, or what the optimizer makes
  of them, is not finite: then all but the step is what it was), those of the
  objective, and what `spikes.counted` says.
  loss = the `objective`, one of `sft_losses.py`, of all rows in nats, plus
  `load_balance` times `feed_forward.load_balance` of all tokens.
  """

  def loss_of(trained, frozen, rows: packing.Rows, at: Array, mask: Array):
    params = combine(trained, frozen)
    hidden, kept = transformer.apply(
      model, params, rows.tokens, at, rows.segment_ids
    )
    # Position i predicts token i + 1. The last column's target would be the
    # row's own first token, a prompt token, whose mask is 0.
    targets = jnp.roll(rows.tokens, -1, axis=-1)
    weights = jnp.roll(mask, -1, axis=-1)
    logp, entropy = output_head.token_logp(
      model, params, hidden, targets, chunk=4096
    )
    loss, found = objective(logp, entropy, weights)
    if load_balance:
      loads = feed_forward.loads(kept.routing, model.experts.used)
      loss += load_balance * feed_forward.load_balance(loads, kept.routing)
    return loss, found

  def step(state: TrainState, rows: packing.Rows, mask: Array, frozen=None):
    at = places(rows, state.step)
    (loss, found), grads = jax.value_and_grad(loss_of, has_aux=True)(
      state.params, frozen, rows, at, mask
    )
    grads = sharding.constrain(grads, slots=True)
    norm = optax.tree.norm(grads)
    is_good = guard.is_finite(loss, norm)
    change = functools.partial(guard.change, optimizer)
    new, is_done = guard.guarded(is_good, change, grads, state)
    numbers = {'loss': loss, 'grad_norm': norm, 'skipped': 1.0 - is_done}
    numbers |= found | spikes.counted(state, new)
    return dataclasses.replace(new, step=state.step + 1), numbers

  return jax.jit(mesh_lib.divided(mesh, step), donate_argnums=0)
