"""What a config or a command line says about the law and the ends of samples.

truncation       numbers by the names of `truncation_rules.Rules`, and `most`
stop             texts that end a response
thinking_budget  tokens before `</think>`; then `thinking_end` is forced
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.sampler import truncation_rules
from lrm_jax.sampler.draw import NO_RULES
from lrm_jax.sampler.stops import Stops
from lrm_jax.sampler.truncation_rules import Rules
from lrm_jax.tokenization import base
from lrm_jax.tokenization.base import Tokenizer

# Ids that may be stored for a token: 2 KiB.
MOST_STORED = 512


class Law(NamedTuple):
  """What `engine.Sampler` takes of the same names."""

  rules: Rules
  most: int | None
  keep_sets: bool = False


def law(truncation: Mapping[str, float], section: str) -> Law:
  """Rules of truncation, checked.

  Args:
    truncation: rules that are left out, or neutral, are off; `most` 0 is none.
    section: what the settings are called in messages, such as 'eval'.

  Raises:
    UserError: a number out of range, or a bound without a rule.
  """
  numbers = dict(truncation)
  most = numbers.pop('most', 0)
  if not isinstance(most, int) or most < 0:
    raise UserError(
      f'{section}.truncation.most={most!r} must be a whole number of at least '
      '1, or 0 for all ids'
    )
  most = most if most else None
  rules = truncation_rules.parse(numbers, most, f'{section}.truncation')
  if most is not None and rules == NO_RULES:
    raise UserError(
      f'{section}.truncation.most={most} does nothing without a rule; give '
      'top_k, or leave it at 0'
    )
  return Law(rules, most)


def stored(found: Law, section: str) -> Law:
  """The law of samples that are trained on: kept sets are stored.

  An update renormalises every token over the ids that were kept when it was
  drawn, so there must be a bound for them: `most`, or else top_k, which is then
  the same (of logits that equal the k-th, the lower ids).

  Args:
    found: from `law`; without rules it stays as it is.
    section: as there.

  Raises:
    UserError: no bound, or one above MOST_STORED.
  """
  rules, most, _ = found
  if rules == NO_RULES:
    return found
  name, most = ('top_k', rules.top_k) if most is None else ('most', most)
  if most is None:
    on = [rule for rule, value in rules._asdict().items() if value is not None]
    raise UserError(
      f'{section}.truncation.{on[0]}={getattr(rules, on[0])} needs a bound: an '
      'update renormalises over the ids that were kept, and they are stored '
      f'for every token; give {section}.truncation.most, 1 to {MOST_STORED} '
      '(of a small vocabulary, all of it)'
    )
  if most > MOST_STORED:
    raise UserError(
      f'{section}.truncation.{name}={most}: so many ids would be stored for '
      f'every token; give most, 1 to {MOST_STORED}'
    )
  return Law(rules, most, keep_sets=True)


def options(
  tokenizer: Tokenizer,
  section: str,
  *,
  truncation: Mapping[str, float],
  stop: Sequence[str],
  thinking_budget: int,
  thinking_end: str,
  is_trained: bool = False,
) -> dict[str, Any]:
  """Keywords of `engine.Sampler`.

  Args:
    tokenizer: of the model.
    section: what the settings are called in messages, such as 'eval'.
    truncation: see `law`.
    stop: none of them empty.
    thinking_budget: 0 for none.
    thinking_end: read where there is a budget; `</think>` is in it.
    is_trained: samples are, so kept sets are stored; see `stored`.

  Raises:
    UserError: a number out of range, an empty stop, an end without `</think>`,
      or kept sets without a bound that are to be stored.
  """
  wanted = law(truncation, section)
  if is_trained:
    wanted = stored(wanted, section)
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
  return wanted._asdict() | {
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
