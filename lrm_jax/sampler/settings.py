"""What a config or a command line says about the law and the ends of samples.

truncation       numbers by the names of `truncation_rules.Rules`, and `most`
stop             texts that end a response
thinking_budget  tokens before `</think>`; then `thinking_end` is forced
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.sampler import truncation_rules
from lrm_jax.sampler.stops import Stops
from lrm_jax.tokenization import base
from lrm_jax.tokenization.base import Tokenizer


def options(
  tokenizer: Tokenizer,
  section: str,
  *,
  truncation: Mapping[str, float],
  stop: Sequence[str],
  thinking_budget: int,
  thinking_end: str,
) -> dict[str, Any]:
  """Keywords of `engine.Sampler`.

  Args:
    tokenizer: of the model.
    section: what the settings are called in messages, such as 'eval'.
    truncation: rules that are left out, or neutral, are off; `most` 0 is none.
    stop: none of them empty.
    thinking_budget: 0 for none.
    thinking_end: read where there is a budget; `</think>` is in it.

  Raises:
    UserError: a number out of range, an empty stop, or an end without
      `</think>`.
  """
  numbers = dict(truncation)
  most = numbers.pop('most', 0)
  if not isinstance(most, int) or most < 0:
    raise UserError(
      f'{section}.truncation.most={most!r} must be a whole number of at least '
      '1, or 0 for all ids'
    )
  most = most if most else None
  if '' in stop:
    raise UserError(f'{section}.stop: a text is empty; each must have a letter')
  if thinking_budget < 0:
    raise UserError(
      f'{section}.thinking_budget={thinking_budget} must not be negative '
      '(0: none)'
    )
  ending = ()
  if thinking_budget:
    ending = _ending(tokenizer, section, thinking_budget, thinking_end)
  rules = truncation_rules.parse(numbers, most, f'{section}.truncation')
  if most is not None and not any(rule is not None for rule in rules):
    raise UserError(
      f'{section}.truncation.most={most} does nothing without a rule; give '
      'top_k, or leave it at 0'
    )
  return {
    'rules': rules,
    'most': most,
    'stops': Stops(tuple(stop), tokenizer.decode) if stop else None,
    'ending_ids': ending,
  }


def _ending(
  tokenizer: Tokenizer, section: str, thinking_budget: int, thinking_end: str
) -> tuple[int, ...]:
  """The tokens that end thinking; see `options`."""
  if not base.is_symbol(tokenizer, prompts.THINK_CLOSE):
    raise UserError(
      f'{section}.thinking_budget={thinking_budget}: {prompts.THINK_CLOSE!r} '
      'is no token of this vocabulary and may merge with what follows, so '
      'its end is not seen in time; set the budget to 0 and cap the response'
    )
  ending = tuple(tokenizer.encode(thinking_end))
  pattern = tuple(base.think_close_ids(tokenizer))
  starts = range(len(ending) - len(pattern) + 1)
  if not any(ending[i : i + len(pattern)] == pattern for i in starts):
    raise UserError(
      f'{section}.thinking_budget={thinking_budget}: thinking_end='
      f'{thinking_end!r} does not have the tokens of '
      f'{prompts.THINK_CLOSE!r} in it, so thinking would not end; put line '
      'breaks around the tag'
    )
  return ending
