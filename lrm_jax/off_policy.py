"""What a config may say of samples that another policy has made."""

import ml_collections

from lrm_jax.errors import UserError

# Whose log-probabilities ratios are taken against.
OLD_LOGP = ('sampler', 'trainer')
# Curricula that compute with the policy as they draw.
_LOOKING = ('gvm', 'pcl')


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses what cannot go together.

  Raises:
    UserError: in one line.
  """
  _check_partial(config.train)
  _check_ahead(config.train)
  if config.train.batches_ahead and not config.sentinels.every:
    raise UserError(
      'sentinels.every=0 with train.batches_ahead=1: every batch is a step old '
      'when it is trained on, so nothing else compares sampler and trainer; '
      'give steps, such as 20'
    )
  check_old_logp(config)
  name = config.objective.curriculum.name
  if config.train.sampler_devices and name in _LOOKING:
    raise UserError(
      f'train.sampler_devices={config.train.sampler_devices} with objective.'
      f'curriculum.name={name!r}: it looks at the policy with the devices that '
      'train; set it to 0, or choose another curriculum'
    )


def _check_partial(sizes: ml_collections.ConfigDict) -> None:
  """Refuses partial rollouts that are none, or of too few problems."""
  if not sizes.partial_tokens:
    return
  if sizes.partial_tokens > sizes.max_tokens:
    raise UserError(
      f'train.partial_tokens={sizes.partial_tokens} is more than a response '
      f'has: train.max_tokens={sizes.max_tokens}; give it a part of that, or 0 '
      'for whole responses'
    )
  if sizes.in_flight < sizes.problems:
    raise UserError(
      f'train.in_flight={sizes.in_flight} with train.partial_tokens='
      f'{sizes.partial_tokens} must be at least train.problems='
      f'{sizes.problems}; twice as many is a good start'
    )
  if sizes.rounds_ahead:
    raise UserError(
      f'train.rounds_ahead={sizes.rounds_ahead} with train.partial_tokens='
      f'{sizes.partial_tokens}: groups in flight are kept, so none is let go; '
      'set one of them to 0'
    )


def check_old_logp(config: ml_collections.ConfigDict) -> None:
  """Refuses ratios against nothing, and corrections of nothing."""
  old_logp = config.train.old_logp
  if old_logp not in OLD_LOGP:
    raise UserError(
      f'train.old_logp={old_logp!r} is not one of {", ".join(OLD_LOGP)}'
    )
  correction = config.objective.correction.name
  if correction != 'uncorrected' and old_logp != 'trainer':
    raise UserError(
      f'objective.correction.name={correction!r} with train.old_logp='
      f"{old_logp!r}: ratios are against the sampler's law already, so there "
      "is nothing to correct; set train.old_logp='trainer'"
    )


def _check_ahead(sizes: ml_collections.ConfigDict) -> None:
  """Refuses batches that are further ahead, or ahead in two ways."""
  if sizes.batches_ahead not in (0, 1):
    raise UserError(
      f'train.batches_ahead={sizes.batches_ahead} must be 0, or 1 to sample '
      'the next batch while one is trained'
    )
  if sizes.batches_ahead and sizes.partial_tokens:
    raise UserError(
      f'train.batches_ahead=1 with train.partial_tokens={sizes.partial_tokens}:'
      ' responses in flight are ahead of their step already; set one of them '
      'to 0'
    )
  if sizes.sampler_devices and not sizes.batches_ahead:
    raise UserError(
      f'train.sampler_devices={sizes.sampler_devices} with train.batches_ahead='
      '0: they would wait for the update, and the others for them; set '
      'train.batches_ahead=1'
    )


def check_sampler_devices(own: int, devices: int, processes: int) -> None:
  """Refuses devices for the sampler alone that are not there.

  Args:
    own: `train.sampler_devices`.
    devices: of all processes.
    processes: of the run.
  """
  if not own:
    return
  if processes > 1:
    raise UserError(
      f'train.sampler_devices={own} with {processes} processes: parameters '
      'would have to be sent between them; set it to 0'
    )
  if not 0 < own < devices:
    raise UserError(
      f'train.sampler_devices={own} of {devices} devices: leave one or more to '
      'train on'
    )
