"""The optimizer, from config; everything in it is optax."""

import jax
import ml_collections
import optax

from lrm_jax import errors
from lrm_jax.structs import Array

SCHEDULES = ('constant', 'cosine', 'linear')


def learning_rate(
  config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Linear warm-up to the peak, then constant, cosine or linear decay.

  Args:
    config: `learning_rate` (peak), `warmup_steps`, `schedule` and
      `final_fraction` (of the peak, where the decay ends: after `steps`).
    steps: updates in the whole run; only decaying schedules look at it.

  Returns:
    step -> learning rate.
  """
  peak, warmup = config.learning_rate, config.warmup_steps
  if config.schedule not in SCHEDULES:
    raise errors.UserError(
      f'optimizer.schedule={config.schedule!r} is not one of '
      f'{", ".join(SCHEDULES)}'
    )
  decay_steps = max(steps - warmup, 1)
  if config.schedule == 'constant':
    after = optax.constant_schedule(peak)
  elif config.schedule == 'cosine':
    after = optax.cosine_decay_schedule(
      peak, decay_steps, alpha=config.final_fraction
    )
  else:
    after = optax.linear_schedule(
      peak, peak * config.final_fraction, decay_steps
    )
  # Update 0 already moves: its rate is peak / warmup, not 0.
  ramp = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
  config: ml_collections.ConfigDict, steps: int
) -> optax.GradientTransformation:
  """AdamW behind a clip of the global gradient norm.

  Weight decay touches matrices only, not biases, norms or other vectors
  (scanned layers carry one more axis, so names decide).

  Args:
    config: `b1`, `b2`, `eps`, `weight_decay`, `clip_norm` (inf: no clip) and
      what `learning_rate` reads.
    steps: updates in the whole run.
  """
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      learning_rate(config, steps),
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=is_matrix,
    ),
  )


def is_matrix(params) -> dict[str, Array]:
  """True on every kernel, embedding and head; False on biases and scales."""
  named = ('kernel', 'embedding', 'head')
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key in named, params
  )
