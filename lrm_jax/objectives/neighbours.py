"""Parts of a recipe that mean something only beside others."""

from typing import Any

from lrm_jax.errors import UserError
from lrm_jax.objectives import binding

_WHERE = 'config.objective'
_DISCRIMINATIVE = {'advantage': 'class_share', 'aggregate': 'question_mean'}
# Parts that mean something only beside others.
_NEEDS = {
  ('loss', 'discriminative_likelihood'): _DISCRIMINATIVE,
  ('loss', 'discriminative_ratio'): _DISCRIMINATIVE,
  ('loss', 'gspo'): {'aggregate': 'sequence_mean'},
  ('bonuses', 'close_thinking'): {'revision': 'compress_thinking'},
  ('demonstration', 'gate'): {
    # Dropped groups are those that it is for.
    'selection': 'all_groups',
    'loss': 'likelihood',
    'aggregate': 'question_sum',
  },
  ('shaping', 'tldr'): {'target': 'level_target'},
  # Groups that taught nothing are what it learns from, too.
  ('curriculum', 'dump'): {'selection': 'all_groups'},
  # A revision compares the responses of a group, of which some are not there.
  ('curriculum', 'gvm'): {'revision': 'unrevised'},
}
# Rewards that compare with what the prompt asked for.
_TARGETED = ('l1_exact', 'l1_max', 'triangular')


def check(objective: dict[str, Any]) -> None:
  """Refuses parts without the others that they are defined with.

  Args:
    objective: the sections of the recipe, all of them.

  Raises:
    UserError: which part, what it was given, and what it needs.
  """
  target = objective['target']['name']
  for name in _TARGETED:
    if name in objective['shaping'] and target in ('no_target', 'level_target'):
      raise UserError(
        f'{_WHERE}.target = {target!r}: {name} rewards the tokens that the '
        'prompt asks for; choose another target'
      )
  for (part, name), needs in _NEEDS.items():
    section = objective[part]
    names = (section['name'],) if 'name' in section else tuple(section)
    if name not in names:
      continue
    for other, wanted in needs.items():
      found = objective[other]['name']
      if found != wanted:
        raise UserError(
          f'{_WHERE}.{other} = {found!r}: {name} is defined with {wanted}; '
          'use that'
        )
    if needs is _DISCRIMINATIVE and objective['bonuses']:
      raise UserError(
        f'{_WHERE}.bonuses = {binding.join(objective["bonuses"])}: {name} '
        'takes its classes from the sign of the advantage; leave them out'
      )
  budget = objective['budget']
  if budget['name'] == 'geometric' and target == 'share_of_cap':
    for key in ('times', 'room'):
      if objective['target'][key] != budget[key]:
        raise UserError(
          f'{_WHERE}.target.{key} = {objective["target"][key]}: with a budget '
          f'of {key} = {budget[key]} prompts would not ask for the budget; '
          'give the same number'
        )
  hinge = objective['regularizers'].get('kl_hinge')
  if hinge is not None and (
    hinge['coefficient'] != 1 or hinge.get('aggregate') != 'token_mean'
  ):
    raise UserError(
      f'{_WHERE}.regularizers.kl_hinge: its gradient is that of the constraint '
      "with coefficient=1 and aggregate='token_mean' only; beta scales it"
    )
