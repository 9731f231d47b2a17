"""What of a policy is trained: all of its parameters, or adapters on them.

Everything else sees three trees and a function. The state and the optimizer
hold what is trained; `combine(trained, frozen)` is what samples, is evaluated
and is exported; the reference is the policy before training.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lrm_jax import rng
from lrm_jax.models import lora as lora_lib
from lrm_jax.models.transformer import Params


class Parts(NamedTuple):
  """Parameters by what becomes of them.

  Attributes:
    trained: what the optimizer changes; updates may donate its buffers.
    frozen: what they only read; None if everything is trained.
    reference: the policy before training, in buffers that nobody donates;
      None if nobody looks at it. Under adapters it is `frozen` itself.
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
  config: ml_collections.ConfigDict, params: Params, needs_reference: bool
) -> Parts:
  """The parts of a run, as `config.lora` says.

  Args:
    config: `lora` and `seed` are read.
    params: the model to start from; taken over, not copied, so that the
      caller must not use it again.
    needs_reference: something will look at the reference.

  Raises:
    UserError: see `lora.Lora` and `lora.init`.
  """
  if config.lora.rank == 0:
    # A copy: the update donates the buffers of what it trains.
    copy = jax.tree.map(jnp.copy, params) if needs_reference else None
    return Parts(params, None, copy, whole)
  lora = read(config)
  return Parts(
    trained=lora_lib.init(lora, params, rng.stream(config.seed, 'lora')),
    frozen=params,
    reference=params if needs_reference else None,
    combine=functools.partial(lora_lib.merge, lora=lora),
  )


def read(config: ml_collections.ConfigDict) -> lora_lib.Lora:
  """The `lora` section, for a rank that is not 0."""
  section = config.lora
  return lora_lib.Lora(section.rank, section.alpha, tuple(section.targets))
