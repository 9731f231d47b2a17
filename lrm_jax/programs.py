"""The jitted functions of one RL step, beside those of the sampler."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lrm_jax import ahead, masking, train_step
from lrm_jax import mesh as mesh_lib
from lrm_jax import policy as policy_lib
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives import advantages, demonstrations, revisions
from lrm_jax.objectives import targets as target_parts
from lrm_jax.objectives.recipe import Recipe
from lrm_jax.structs import Array, Rollouts


@dataclasses.dataclass(frozen=True)
class Programs:
  """The jitted functions of one step, in the order of their use.

  Attributes:
    features: `params, prompt_ids, prompt_length -> [N, D]`.
    gradients: `params, ids, segment_ids, trained [R, S] -> [R]`.
    target: `key, hashes [B], cap -> [B]`.
    revision: `rollouts -> start, stop`, both `[B, G]`.
    observe: `rollouts, memory -> memory`, of the monitor's samples.
    shape: `rollouts, memory -> reward, keep, memory`.
    demonstrate: `rollouts -> coefficient [B]`.
    credit: `reward, keep, rollouts, entropy, demonstrated -> advantages, mask`.
    correct: `old_logp, sampler_logp, advantages, mask -> the same two and
      numbers`.
    score: `params, packed, mask, kept_ids -> logp, entropy`, both `[B, G, T]`.
    update: `state, ref_params, packed, targets, frozen -> state, metrics`.
    combine: `trained, frozen -> params`, the policy of a state.
  """

  features: Callable[..., Any]
  gradients: Callable[..., Any]
  target: Callable[..., Any]
  revision: Callable[..., Any]
  observe: Callable[..., Any]
  shape: Callable[..., Any]
  demonstrate: Callable[..., Any]
  credit: Callable[..., Any]
  correct: Callable[..., Any]
  score: Callable[..., Any]
  update: ahead.Ahead
  combine: Callable[..., Any]


def make_programs(
  config: ModelConfig,
  recipe: Recipe,
  optimizer: optax.GradientTransformation,
  *,
  temperature: float,
  chunk: int,
  load_balance: float = 0.0,
  combine: Callable[..., Any] = policy_lib.whole,
  mesh: Mesh | None = None,
) -> Programs:
  """The programs of a model and a recipe; see `train_step.make_update`."""
  return Programs(
    features=make_features(config, mesh),
    gradients=make_gradients(
      config, temperature=temperature, chunk=chunk, mesh=mesh
    ),
    target=make_target(recipe),
    revision=make_revision(recipe),
    observe=jax.jit(recipe.observe),
    shape=make_shape(recipe),
    demonstrate=jax.jit(recipe.demonstration),
    credit=make_credit(recipe),
    correct=make_correct(recipe),
    score=train_step.make_score(
      config, temperature=temperature, chunk=chunk, mesh=mesh
    ),
    update=ahead.Ahead(
      train_step.make_update(
        config,
        recipe,
        optimizer,
        temperature=temperature,
        chunk=chunk,
        load_balance=load_balance,
        combine=combine,
        mesh=mesh,
      )
    ),
    combine=combine,
  )


def make_features(
  config: ModelConfig, mesh: Mesh | None = None
) -> Callable[..., Array]:
  """`features(params, prompt_ids [N, P], prompt_length [N]) -> [N, D]`.

  The final hidden state at the last token of each prompt, scaled to length 1;
  float32.
  """

  def features(params: Any, prompt_ids: Array, prompt_length: Array):
    count, width = prompt_ids.shape
    at = jnp.broadcast_to(jnp.arange(width), (count, width))
    segments = (at < prompt_length[:, None]).astype(jnp.int32)
    hidden, _ = transformer.apply(config, params, prompt_ids, at, segments)
    last = hidden[jnp.arange(count), prompt_length - 1].astype(jnp.float32)
    norm = jnp.linalg.norm(last, axis=-1, keepdims=True)
    return mesh_lib.constrain(last / jnp.maximum(norm, 1e-30), None, None)

  return jax.jit(mesh_lib.divided(mesh, features))


def make_gradients(
  config: ModelConfig,
  *,
  temperature: float,
  chunk: int,
  mesh: Mesh | None = None,
) -> Callable[..., Array]:
  """`gradients(params, ids, segment_ids, trained) -> norms [R]`.

  One sequence a row. The L2 norm of the gradient of `-sum_t trained_t logp_t`
  with respect to the matrix of input embeddings, of each row alone; `trained_t`
  belongs to the token behind place t. Where embeddings are tied, the matrix is
  the output head as well; this is its gradient as input only.

  Every place has its embedding as a parameter of its own, so one backward pass
  does for all rows; then those of the same token are summed.
  """

  def gradients(params: Any, ids: Array, segment_ids: Array, trained: Array):
    rows, width = ids.shape
    own = dataclasses.replace(
      config, vocab_size=ids.size, used_vocab=0, tie_embeddings=True
    )
    places = jnp.arange(ids.size, dtype=jnp.int32).reshape(ids.shape)
    at = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), ids.shape)

    def loss(table: Array):
      inputs = params | {'embedding': table}
      hidden, _ = transformer.apply(own, inputs, places, at, segment_ids)
      logp, _ = output_head.token_logp(
        config,
        params,
        hidden,
        jnp.roll(ids, -1, axis=-1),
        temperature=temperature,
        chunk=chunk,
      )
      return -jnp.sum(jnp.where(trained, logp, 0.0))

    table = params['embedding'][ids.reshape(-1)]
    slopes = jax.grad(loss)(table).astype(jnp.float32)
    norms = jax.vmap(_norm_by_token)(slopes.reshape(rows, width, -1), ids)
    return mesh_lib.constrain(norms, None)

  return jax.jit(mesh_lib.divided(mesh, gradients))


def _norm_by_token(slopes: Array, ids: Array) -> Array:
  """The norm of slopes `[S, D]`, those of equal ids `[S]` summed first."""
  order = jnp.argsort(ids)
  ranked = ids[order]
  is_new = jnp.concatenate([jnp.zeros(1, bool), ranked[1:] != ranked[:-1]])
  sums = jax.ops.segment_sum(
    slopes[order], jnp.cumsum(is_new), num_segments=len(ids)
  )
  return jnp.sqrt(jnp.sum(jnp.square(sums)))


def make_target(recipe: Recipe) -> Callable[..., Array]:
  """`target(key, hashes [B], cap) -> [B]`, one random key per problem."""
  if recipe.target.func is target_parts.no_target:
    # Nothing to compile.
    return lambda key, hashes, cap: np.zeros(len(hashes), np.int32)

  @jax.jit
  def target(key: Array, hashes: Array, cap: Array):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, hashes)
    return recipe.target(keys, cap)

  return target


def make_revision(recipe: Recipe) -> Callable[..., tuple[Array, Array]]:
  """`revision(rollouts) -> start, stop`, both `[B, G]`."""
  if recipe.revision.func is revisions.unrevised:
    # Nothing to compile.
    return lambda rollouts: (np.zeros_like(rollouts.length),) * 2
  return jax.jit(recipe.revision)


def make_shape(recipe: Recipe) -> Callable[..., Any]:
  """`shape(rollouts, memory) -> reward [B, G], keep [B, G], memory`."""

  @jax.jit
  def shape(rollouts: Rollouts, memory: Any):
    reward, memory = recipe.reward(rollouts, memory)
    return reward, recipe.selection(rollouts, reward), memory

  return shape


def make_credit(recipe: Recipe) -> Callable[..., Any]:
  """`credit(reward, keep, rollouts, entropy, demonstrated)`.

  Returns advantages, a tuple of `[B, G, T]`, see `Recipe.total`, and the mask
  `[B, G, T]`: 1 on the tokens of kept samples that the recipe trains. `entropy`
  is read by a recipe that `needs_entropy`, `demonstrated` by one that
  `demonstrates`: `[B]`, see `demonstrations.teach`. None for others.
  """

  @jax.jit
  def credit(
    reward: Array,
    keep: Array,
    rollouts: Rollouts,
    entropy: Array | None = None,
    demonstrated: Array | None = None,
  ):
    whole = jnp.asarray(rollouts.mask) * keep[..., None]
    mask = whole
    if demonstrated is not None:
      # Compared with nothing: a group with a demonstration has no samples.
      mask = whole * (demonstrated == 0)[:, None, None]
    advantage = advantages.per_token(recipe.advantage(reward, mask), mask)
    for bonus in recipe.bonuses:
      advantage = advantage + bonus.function(rollouts, mask)
    found, mask = recipe.credit(rollouts, advantage, mask, entropy)
    if demonstrated is not None:
      given = whole * (demonstrated > 0)[:, None, None]
      found = demonstrations.teach(found, given, demonstrated)
      mask = mask + given
    return found, mask

  return credit


def make_correct(recipe: Recipe) -> Callable[..., Any]:
  """`correct(old_logp, sampler_logp, advantages, mask)`.

  The advantages times the weights of the recipe's correction, the mask without
  what it leaves out, and numbers for the metrics: the mean weight of the tokens
  that came in, and the share of them that it leaves out.
  """

  @jax.jit
  def correct(
    old_logp: Array,
    sampler_logp: Array,
    advantages: tuple[Array, ...],
    mask: Array,
  ):
    weight, kept = recipe.correction(old_logp, sampler_logp, mask)
    numbers = {
      'correction_mean': masking.mean(weight, mask),
      'correction_masked': masking.mean(kept == 0, mask),
    }
    return tuple(weight * x for x in advantages), kept, numbers

  return correct
