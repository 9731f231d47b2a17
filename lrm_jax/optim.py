"""The optimizer, from config; everything in it is optax."""

import math

import jax
import ml_collections
import optax
import optax.contrib

from lrm_jax import errors, rounding, spam, spikes
from lrm_jax.models import lora
from lrm_jax.models.transformer import Params

SCHEDULES = ('constant', 'cosine', 'linear')
# Names of the leaves that are projections, or adapters of some; those of
# experts are leaves of 'experts' itself.
PROJECTIONS = ('kernel', lora.A, lora.B)


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
  """The named optimizer behind a clip of the global gradient norm.

  Args:
    config: `name`, `clip_norm` (inf: no clip), `spike_factor` and
      `spike_reset` (see `spikes.py`), what `learning_rate` reads, and the keys
      of the optimizer itself.
    steps: updates in the whole run.

  Raises:
    UserError: an unknown name, or a factor that cannot be.
  """
  if config.name in ('momo', 'momo_adam'):
    raise errors.UserError(
      f'optimizer.name={config.name!r}: its step size is (loss - lower bound) '
      '/ |gradient|^2, and the signed losses of policies have no lower bound; '
      f'choose from {", ".join(OPTIMIZERS)}'
    )
  if config.name not in OPTIMIZERS:
    raise errors.UserError(
      f'optimizer.name={config.name!r} is not one of {", ".join(OPTIMIZERS)}'
    )
  rate = learning_rate(config, steps)
  optimizer = optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    OPTIMIZERS[config.name](config, rate),
  )
  factor = config.spike_factor
  if factor and config.name == 'spam':
    raise errors.UserError(
      f'optimizer.spike_factor={factor} with optimizer.name=spam, which has a '
      'bound of its own; give spike_factor=0, or another optimizer'
    )
  if not (factor == 0 or 1 < factor < math.inf):
    raise errors.UserError(
      f'optimizer.spike_factor={factor} must be above 1 and finite, or 0 for '
      'no bound on the gradient'
    )
  if config.spike_reset:
    if not factor:
      raise errors.UserError(
        'optimizer.spike_reset=True with optimizer.spike_factor=0: nothing is '
        'a spike; give a factor such as 10, or no reset'
      )
    return spikes.restarting(factor, optimizer)
  return optax.chain(spikes.bound(factor), optimizer) if factor else optimizer


def of_run(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """That of `lrm train`; parameters of bfloat16 are rounded at random after.

  Args:
    config: all of it.
  """
  sizes = config.train
  steps = sizes.steps * sizes.mini_batches * sizes.passes
  optimizer = make_optimizer(config.optimizer, steps)
  if config.model.param_dtype == 'bfloat16' and config.lora.rank == 0:
    return optax.chain(optimizer, rounding.stochastic(config.seed))
  return optimizer


def adamw(
  config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
  """AdamW; weight decay touches matrices only (see `is_matrix`)."""
  return optax.adamw(
    rate,
    b1=config.b1,
    b2=config.b2,
    eps=config.eps,
    weight_decay=config.weight_decay,
    mask=is_matrix,
  )


def muon(
  config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Muon on the projections, Adam on embedding, head, biases and norms.

  Both have Nesterov momentum, as optax has it.
  The learning rate is Adam's; that of Muon is `muon_factor` times as high
  (its updates are orthogonal matrices, not near-unit coordinates). Weight
  decay touches the projections only.
  """
  return optax.contrib.muon(
    lambda step: config.muon_factor * rate(step),
    adam_learning_rate=rate,
    adam_b1=config.b1,
    adam_b2=config.b2,
    weight_decay=config.weight_decay,
    muon_weight_dimension_numbers=_projections,
  )


def spike_aware(
  config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
  """SPAM; weight decay as AdamW's, which its warm-ups do not scale.

  The clip of the whole gradient comes before; the paper's own has none.
  """
  return optax.chain(
    spam.scale_by_spam(
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      threshold=config.spam_threshold,
      interval=config.spam_interval,
      warmup=config.spam_warmup,
    ),
    optax.add_decayed_weights(config.weight_decay, is_matrix),
    optax.scale_by_learning_rate(rate),
  )


OPTIMIZERS = {'adamw': adamw, 'muon': muon, 'spam': spike_aware}


def is_matrix(params: Params) -> Params:
  """True on kernels, embedding, head and adapters; not on biases and scales.

  Scanned layers carry one more axis, so names decide, not ranks.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: (
      _is_projection(path) or path[-1].key in ('embedding', 'head')
    ),
    params,
  )


def _projections(params: Params) -> Params:
  """Which axes of a scanned kernel `[L, in, out]` make the matrix.

  Experts have one more before them.
  """
  matrix = lambda x: optax.contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)
  return jax.tree_util.tree_map_with_path(
    lambda path, x: matrix(x) if _is_projection(path) else None, params
  )


def _is_projection(path: tuple[jax.tree_util.DictKey, ...]) -> bool:
  is_expert = len(path) > 1 and path[-2].key == 'experts'
  return is_expert or path[-1].key in PROJECTIONS
