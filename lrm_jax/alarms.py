"""Alarms on the numbers of a step: limits, and for how long they are passed.

tripped(row, limits)         names of the limits that a step is beyond
count(before, row, limits)   steps in a row beyond each
end(checkpoints, ...)        the end of a run that an alarm stops
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import ml_collections

from lrm_jax import errors
from lrm_jax.checkpoints.state import RunCheckpoints

# Names of limits: the number of a step that each is for, and what to look at.
ALARMS = {
  'entropy_min': ('entropy', 'the policy repeats itself: optimizer, clips'),
  'entropy_max': ('entropy', 'the policy comes apart: learning rate, bonuses'),
  'kl_max': ('kl', 'far from the reference: learning rate, regularizers'),
  'tokens_min': ('response_tokens', 'length rewards, and answers in rollouts/'),
  'tokens_max': ('response_tokens', 'length rewards, and loops in rollouts/'),
  'truncated_max': ('truncated', 'the budget, and loops in rollouts/'),
  'accuracy_min': ('accuracy', 'the verifier, and answers in rollouts/'),
}


def check(limits: ml_collections.ConfigDict) -> None:
  """Refuses sentinels that cannot be.

  Raises:
    UserError: of which.
  """
  for name, least in (('every', 0), ('patience', 1)):
    if limits[name] < least:
      raise errors.UserError(
        f'sentinels.{name}={limits[name]} must be at least {least}'
      )
  for name in ALARMS:
    if math.isnan(limits[name]):
      raise errors.UserError(f'sentinels.{name} must be a number, or inf')
  for name in ('entropy', 'tokens'):
    low, high = limits[f'{name}_min'], limits[f'{name}_max']
    if not low <= high:
      raise errors.UserError(
        f'sentinels.{name}_min={low} is above sentinels.{name}_max={high}'
      )


def tripped(
  row: Mapping[str, float | None], limits: Mapping[str, float]
) -> list[str]:
  """The limits that the numbers of a step are beyond.

  Args:
    row: numbers by name; those that are absent, null or NaN are beyond none.
    limits: of `ALARMS`, by name; a number that equals one is within it.
  """
  found = []
  for name, (column, _) in ALARMS.items():
    value = reading(row, column)
    if value is None:
      continue
    is_low = name.endswith('_min') and value < limits[name]
    is_high = name.endswith('_max') and value > limits[name]
    if is_low or is_high:
      found.append(name)
  return found


def count(
  before: Mapping[str, int],
  row: Mapping[str, float | None],
  limits: Mapping[str, float],
) -> dict[str, int]:
  """Steps in a row beyond each limit; a step without a number is no step."""
  unread = {
    name: number
    for name, number in before.items()
    if reading(row, ALARMS[name][0]) is None
  }
  return unread | {
    name: 1 + (before[name] if name in before else 0)
    for name in tripped(row, limits)
  }


@dataclasses.dataclass
class Alarms:
  """What alarms remember between steps.

  Attributes:
    skipped_in_row: updates since the last good one.
    beyond: steps in a row beyond a limit, by its name.
    reasons: why this step is the last; not kept between starts. They are
      raised together, once that step is saved: see `joined` and `end`.
  """

  skipped_in_row: int = 0
  beyond: dict[str, int] = dataclasses.field(default_factory=dict)
  reasons: list[errors.CheckFailed] = dataclasses.field(default_factory=list)

  def get_state(self) -> dict[str, Any]:
    """For a checkpoint, JSON-able."""
    return {'skipped_in_row': self.skipped_in_row, 'beyond': dict(self.beyond)}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on from `get_state`."""
    self.skipped_in_row = state['skipped_in_row']
    self.beyond = dict(state['beyond'])


def reading(row: Mapping[str, float | None], column: str) -> float | None:
  """A number of a step; None where it has none."""
  value = row[column] if column in row else None
  return None if value is None or math.isnan(value) else value


def joined(alarms: Alarms) -> str | None:
  """The text of all reasons, which are then forgotten; None without any."""
  reasons, alarms.reasons = alarms.reasons, []
  return '; '.join(map(str, reasons)) if reasons else None


def end(checkpoints: RunCheckpoints, reason: str, step: int) -> NoReturn:
  """Ends a run when its last step, whose save has begun, is published.

  Args:
    checkpoints: of the run.
    reason: from the alarms.
    step: that is being saved.

  Raises:
    CheckFailed: the reason, and whether the step was saved.
  """
  try:
    checkpoints.close()
  except errors.UserError as error:
    raise errors.CheckFailed(f'{reason}; not saved: {error}') from error
  raise errors.CheckFailed(f'{reason}; saved step {step}')
