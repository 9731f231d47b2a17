"""What of a policy is trained: all of its parameters, or adapters on them.

The state and the optimizer hold what is trained. `combine(trained, frozen)`
is the policy: what samples, is evaluated and is exported. The reference is
the policy before training.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrm_jax import offloading, rng, sharding, storage
from lrm_jax.checkpoints import huggingface, key_maps, peft_layout
from lrm_jax.errors import UserError
from lrm_jax.models import lora as lora_lib
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.lora import Lora
from lrm_jax.models.transformer import Params
from lrm_jax.structs import TrainState
from lrm_jax.tokenization.base import Tokenizer


class Parts(NamedTuple):
  """Parameters by what becomes of them.

  Attributes:
    trained: what the optimizer changes; updates may donate its buffers.
    frozen: what they only read; None if everything is trained.
    reference: the policy before training, in buffers that nobody donates;
      None if nobody looks at it. Under adapters it is the base, `frozen`
      itself.
    combine: `trained, frozen -> params`; pure, and `trained` gets gradients.
  """

  trained: Any
  frozen: Any
  reference: Params | None
  combine: Callable[[Any, Any], Params]


def whole(trained: Params, frozen: None) -> Params:
  """`combine` where everything is trained."""
  del frozen
  return trained


def divide(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  params: Params,
  *,
  needs_reference: bool,
  offload: Sequence[str] = (),
) -> Parts:
  """The parts of a run, as `config.lora` says.

  Args:
    config: `lora` and `seed` are read.
    model: the architecture.
    params: what training starts from; taken over, not copied, so that the
      caller must not use it again.
    needs_reference: something will look at the reference.
    offload: see `offloading.PARTS`.

  Raises:
    UserError: see `start`.
  """
  # On the device once: NumPy arrays would be sent with every update.
  params = jax.tree.map(
    lambda x: x if isinstance(x, jax.Array) else jax.device_put(x), params
  )
  adapters = start(config, model)
  if adapters is None:
    # A copy: the update donates the buffers of what it trains.
    copy = None
    if needs_reference:
      copy = _copy(params, is_offloaded='reference' in offload)
    return Parts(params, None, copy, whole)
  lora = read(config)
  return Parts(
    trained=jax.tree.map(jnp.asarray, adapters),
    frozen=params,
    reference=params if needs_reference else None,
    combine=lambda trained, frozen: lora_lib.merge(frozen, trained, lora),
  )


def _copy(params: Params, *, is_offloaded: bool) -> Params:
  if is_offloaded:
    whole = NamedSharding(offloading.one_device(), PartitionSpec())
    where = jax.tree.map(
      lambda x: x.sharding if isinstance(x.sharding, NamedSharding) else whole,
      params,
    )
    where = offloading.shardings(params, where)
    return jax.jit(lambda x: x, out_shardings=where)(params)

  def one(x: jax.Array) -> jax.Array:
    if x.is_fully_addressable:
      return jax.device_put(x, may_alias=False)
    return jnp.copy(x)  # A program, of all processes.

  return jax.tree.map(one, params)


def start(
  config: ml_collections.ConfigDict, model: ModelConfig
) -> Params | None:
  """New adapters, or those of `config.lora.path`; None for a rank of 0.

  Raises:
    UserError: a rank, an alpha, targets or files that cannot be.
  """
  if config.lora.rank == 0:
    if config.lora.path is not None:
      raise UserError(
        f'lora.path={config.lora.path!r} with lora.rank=0; give the rank of '
        'these adapters, or no path'
      )
    return None
  lora = read(config)
  if config.lora.path is not None:
    return peft_layout.load(config.lora.path, model, lora)
  key = rng.stream(config.seed, 'lora')
  return lora_lib.init(lora, key_maps.shapes(model), key)


def read(config: ml_collections.ConfigDict) -> Lora:
  """The `lora` section where its rank is not 0."""
  return Lora(config.lora.rank, config.lora.alpha, tuple(config.lora.targets))


def start_state(
  optimizer: optax.GradientTransformation,
  trained: Any,
  mesh: Mesh | None,
  offload: Sequence[str] = (),
) -> TrainState:
  """The state before the first step; `trained` is taken over."""
  init = functools.partial(start_slots, optimizer)
  step = np.int32(0)
  if mesh is None and not offload:
    return TrainState(jax.device_put(step), trained, jax.jit(init)(trained))
  if mesh is None:
    mesh = offloading.one_device()
  state = TrainState(step, trained, jax.eval_shape(init, trained))
  specs = sharding.state_specs(state, mesh)
  divided = sharding.shardings(mesh, specs)
  trained = jax.device_put(trained, divided.params)
  where = divided.opt_state
  if 'optimizer' in offload:
    where = offloading.shardings(state.opt_state, where)
  return TrainState(
    sharding.put(step, mesh, specs.step),
    trained,
    jax.jit(init, out_shardings=where)(trained),
  )


def start_slots(optimizer: optax.GradientTransformation, trained: Any) -> Any:
  """What the optimizer keeps: float32, whatever the parameters are."""
  return optimizer.init(jax.tree.map(lambda x: x.astype(jnp.float32), trained))


def export(
  workdir: storage.Path,
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  tokenizer: Tokenizer,
  *,
  trained: Any,
  params: Params,
) -> str:
  """Writes WORKDIR/model, and adapters to WORKDIR/adapter as well.

  Args:
    workdir: the run's folder.
    config: of the run.
    model: the architecture.
    tokenizer: goes with the model.
    trained: see `Parts`.
    params: the policy; stored in the dtype it has.

  Returns:
    What was written, for the user.
  """
  huggingface.save(
    workdir / 'model',
    model,
    params,
    tokenizer=tokenizer,
    dtype=model.param_dtype,
  )
  if config.lora.rank == 0:
    return 'model/'
  peft_layout.save(
    workdir / 'adapter',
    model,
    read(config),
    jax.device_get(trained),
    base=str(config.model.path),
  )
  return 'model/, adapter/'
