"""Gradients of many recipes at the cost of one forward pass.

The loss of a recipe depends on the parameters through the log-probability and
the entropy of each response token alone:

    score        rows, parameters -> logp, entropy            one program
    cotangents   logp, entropy -> loss, d loss / d both       one a recipe, tiny
    pull         rows, parameters, cotangents -> gradients    one program

`pull` goes forward once and back for all recipes together, so it is the only
program that knows the model and is compiled once, whatever the recipes are.
"""

import collections
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrm_jax import packing, train_step
from lrm_jax.errors import UserError
from lrm_jax.models import presets
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.objectives.recipe import Recipe
from lrm_jax.replaying.stored import Step
from lrm_jax.structs import Array, TokenTerms

# Rows are a multiple of this long, so that few programs are compiled.
_ROW_UNIT = 64
# Numbers in the gradients that are pulled back at a time: a gigabyte.
_MOST_AT_ONCE = 1 << 28
# Columns of a Gram matrix that become float64 at a time.
_COLUMNS = 1 << 20
_LOGIT_CHUNK = 4096


class Micro(NamedTuple):
  """Packed rows of a few groups.

  Attributes:
    rows: `[R, S]`.
    groups: `[Q]` int32, which of the N groups; -1 for none.
    offsets: `[Q, G]`, see `packing.PackedBatch`.
  """

  rows: packing.Rows
  groups: np.ndarray
  offsets: np.ndarray


class Model:
  """A model whose parameters recipes pull at.

  Args:
    config: the architecture.
    params: of the policy.
    reference: of the frozen one; may be the same.
    temperature: the responses were sampled with.
    rows: packed rows at a time; a group needs as many as it has samples.
  """

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    reference: Params,
    *,
    temperature: float,
    rows: int,
  ):
    self.params, self.reference = params, reference
    self._config = presets.change(config, attention='chunked')
    self._temperature, self._rows = temperature, rows
    self._programs: dict[int, tuple[Any, Any]] = {}

  def score(
    self, step: Step, params: Params, wanted: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """(logp, entropy) `[N, G, T]` of the responses wanted, 0 elsewhere.

    Args:
      step: what was sampled.
      params: of the model.
      wanted: `[N, G]` bool.
    """
    score, _ = self._compiled(step)
    mask = step.rollouts.mask * wanted[..., None]
    found = np.zeros_like(mask), np.zeros_like(mask)
    for micro in self._pack(step, wanted):
      is_there = micro.groups >= 0
      values = score(params, micro.rows, micro.offsets, _pick(mask, micro))
      for whole, part in zip(found, values, strict=True):
        whole[micro.groups[is_there]] = np.asarray(part)[is_there]
    return found

  def pull(
    self, step: Step, sums: Params, cotangents: tuple[np.ndarray, np.ndarray]
  ) -> Params:
    """Adds the gradients of K recipes.

    Args:
      step: what was sampled.
      sums: float32 trees with K in front of every shape; given away.
      cotangents: of logp and of entropy, `[K, N, G, T]` each; 0 on what is
        not trained.
    """
    _, pull = self._compiled(step)
    wanted = np.any([x.any((0, 3)) for x in cotangents], axis=0)
    for micro in self._pack(step, wanted):
      parts = [
        np.moveaxis(_pick(np.moveaxis(x, 0, 1), micro), 1, 0)
        for x in cotangents
      ]
      sums = pull(self.params, sums, micro.rows, micro.offsets, *parts)
    return sums

  def check(self, step: Step, name: str) -> None:
    """Refuses rollouts that are not of this model.

    Raises:
      UserError: an id that it does not have, or more tokens than its window.
    """
    rollouts = step.rollouts
    most = max(rollouts.prompt_ids.max(), rollouts.response_ids.max())
    if most >= self._config.vocab_size:
      raise UserError(
        f'--model={name!r} has {self._config.vocab_size} token ids, and the '
        f'rollouts of step {step.number} have {most}; give the model that '
        'sampled them'
      )
    longest = int((rollouts.prompt_length[:, None] + rollouts.length).max())
    if longest > self._config.max_positions:
      raise UserError(
        f'--model={name!r} has a window of {self._config.max_positions} '
        f'positions, and the rollouts of step {step.number} need {longest}; '
        'give the model that sampled them'
      )

  def _pack(self, step: Step, wanted: np.ndarray) -> Iterator[Micro]:
    packed = packing.pack_groups(
      step.rollouts,
      wanted,
      rows=max(self._rows, wanted.shape[1]),
      row_length=_row_length(step),
      groups_per_micro_batch=self._rows,
      shared=True,
    )
    for i in range(int(packed.count)):
      rows = jax.tree.map(lambda x: x[i], packed.rows)  # noqa: B023
      yield Micro(rows, packed.groups[i], packed.offsets[i])

  def _compiled(self, step: Step) -> tuple[Callable, Callable]:
    length = _row_length(step)
    if length not in self._programs:
      forward = functools.partial(
        train_step.response_logp,
        self._config.for_length(length),
        temperature=self._temperature,
        chunk=_LOGIT_CHUNK,
      )
      self._programs[length] = make_score(forward), make_pull(forward)
    return self._programs[length]


def _row_length(step: Step) -> int:
  rollouts = step.rollouts
  longest = int((rollouts.prompt_length[:, None] + rollouts.length).max())
  return -(-longest // _ROW_UNIT) * _ROW_UNIT


def _pick(values: np.ndarray, micro: Micro) -> np.ndarray:
  """The groups of a micro-batch, `[Q, ...]`; zeros for none."""
  found = values[np.maximum(micro.groups, 0)]
  found[micro.groups < 0] = 0
  return found


def make_score(forward: Callable[..., Any]) -> Callable[..., Any]:
  """`score(params, rows, offsets, mask) -> logp, entropy`, `[Q, G, T]` each."""
  return jax.jit(lambda *args: forward(*args, None)[:2])


def make_pull(forward: Callable[..., Any]) -> Callable[..., Any]:
  """`pull(params, sums, rows, offsets, of_logp, of_entropy) -> sums`.

  The last two are `[K, Q, G, T]`, and the sums have K in front.
  """

  def pull(params, sums, rows, offsets, of_logp, of_entropy):
    mask = jnp.ones(of_logp.shape[1:], jnp.float32)
    _, back = jax.vjp(
      lambda p: forward(p, rows, offsets, mask, None)[:2], params
    )
    # One after the other: each finds what the forward pass kept in the same
    # place, and needs room of its own once. Batched they took three times as
    # long, and XLA (0.10.2, CPU) gets them wrong: of RMSNorm's backward pass
    # with several cotangents of `[64, 48, 128]` all but the first.
    grads = jax.lax.map(lambda pair: back(pair)[0], (of_logp, of_entropy))
    return jax.tree.map(lambda x, y: x + y.astype(jnp.float32), sums, grads)

  return jax.jit(pull, donate_argnums=1)


class Cotangents(NamedTuple):
  """A recipe's loss, and what it makes of each token; `[B, G, T]`.

  Attributes:
    loss: of the batch, as one mini-batch.
    logp: d loss / d log-probability, 0 on what is not trained.
    entropy: d loss / d entropy, likewise.
  """

  loss: Array
  logp: Array
  entropy: Array


def make_cotangents(recipe: Recipe) -> Callable[..., Cotangents]:
  """`f(logp, entropy, ref_logp, old_logp, advantages, mask, thinking)`.

  Gives `Cotangents`. All are `[B, G, T]`, `advantages` a tuple of them, and
  `thinking` `[B, G]`, see `train_step.Targets`. What stands outside the mask
  does not matter.
  """

  @jax.jit
  def cotangents(logp, entropy, ref_logp, old_logp, advantages, mask, thinking):
    logp, entropy, ref_logp = (
      jnp.where(mask > 0, x, 0.0) for x in (logp, entropy, ref_logp)
    )
    weights, advantage = recipe.weights(mask), sum(advantages)
    focus = {}
    if recipe.needs_statistics:
      focus = recipe.focus(logp, old_logp, advantage, mask)

    def loss(logp, entropy):
      terms = TokenTerms(
        logp=logp,
        old_logp=old_logp,
        ref_logp=ref_logp,
        entropy=entropy,
        advantage=advantage,
        mask=mask,
        focus=jnp.ones_like(logp),
        answer=train_step.answers(thinking, mask),
      )
      return recipe.total(terms, advantages, weights, focus)

    value, grads = jax.value_and_grad(loss, (0, 1))(logp, entropy)
    return Cotangents(value, *(jnp.where(mask > 0, x, 0.0) for x in grads))

  return cotangents


# --- Sums of many recipes ---


class Sums:
  """The gradients of K recipes, added up over steps.

  As many at a time are on the device as have room there; if that is not all,
  the others wait in the host's memory, float32.

  Args:
    model: whose parameters they are of.
    count: K.
  """

  def __init__(self, model: Model, count: int):
    self._model = model
    size = sum(x.size for x in jax.tree.leaves(model.params))
    part = max(1, min(count, _MOST_AT_ONCE // size))
    self._cuts = [slice(i, min(i + part, count)) for i in range(0, count, part)]
    self.bytes = 4 * size * count
    self._sums = [
      jax.tree.map(
        lambda x: np.zeros((cut.stop - cut.start, *x.shape), np.float32),  # noqa: B023
        model.params,
      )
      for cut in self._cuts
    ]

  def add(self, step: Step, cotangents: tuple[np.ndarray, np.ndarray]) -> None:
    """Adds those of a step; `[K, N, G, T]` of logp and of entropy."""
    for i, cut in enumerate(self._cuts):
      parts = tuple(x[cut] for x in cotangents)
      # A copy, which the program may take over.
      sums = jax.tree.map(jnp.array, self._sums[i])
      sums = self._model.pull(step, sums, parts)
      self._sums[i] = sums if len(self._cuts) == 1 else jax.device_get(sums)

  def gram(self) -> dict[str, np.ndarray]:
    """Inner products `[K, K]`, float64, by the group of layers."""
    trees = jax.device_get(self._sums)
    leaves = zip(
      jax.tree_util.tree_leaves_with_path(self._model.params),
      *map(jax.tree.leaves, trees),
      strict=True,
    )
    found = collections.defaultdict(float)
    for (path, leaf), *parts in leaves:
      for name, where in layer_groups(path, leaf.shape):
        own = [x[where].reshape(len(x), -1) for x in parts]
        found[name] = found[name] + _gram(own)
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def layer_groups(
  path: Sequence[Any], shape: Sequence[int]
) -> list[tuple[str, tuple]]:
  """(group, index of it behind the axis of recipes) of one parameter.

  Groups are `embedding`, `layer_I/attention`, `layer_I/feed_forward`, `norms`
  and `head`; norms of queries and keys belong to the attention.

  Args:
    path: of the parameter, see `jax.tree_util`.
    shape: of it; layers are its first axis, where it has them.
  """
  names = [key.key for key in path]
  everything = slice(None)
  if names[0] != 'layers':
    name = 'norms' if 'norm' in names[0] else names[0]
    return [(name, (everything,))]
  if names[1] != 'attention' and 'norm' in names[1]:
    return [('norms', (everything,))]
  part = 'attention' if names[1] == 'attention' else 'feed_forward'
  return [
    (f'layer_{layer}/{part}', (everything, layer)) for layer in range(shape[0])
  ]


def _order(name: str) -> tuple:
  """From the first to the last: embedding, layers, norms, head."""
  place = {'embedding': 0, 'norms': 2, 'head': 3}
  if name in place:
    return place[name], 0, name
  layer = name.partition('/')[0].removeprefix('layer_')
  return 1, int(layer) if layer.isdigit() else 0, name


def _gram(parts: list[np.ndarray]) -> np.ndarray:
  """`[K, K]` of rows in several pieces, a few columns at a time."""
  count = sum(map(len, parts))
  found = np.zeros((count, count))
  for start in range(0, parts[0].shape[1], _COLUMNS):
    columns = slice(start, start + _COLUMNS)
    block = np.concatenate([x[:, columns] for x in parts]).astype(np.float64)
    found += block @ block.T
  return found
