"""Evaluations beside each other: differences, intervals, adjusted p-values.

    rows = compare([read('runs/a'), read('runs/b'), read('runs/c')])
    row = compare_methods({'GRPO': [...three seeds...], 'DLER': [...]})

Two evaluations are compared only if they asked the same: the same problems,
caps, law of sampling, ends, prompts and number of samples. What model answered
does not matter.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_jax import configuration
from lrm_jax.errors import UserError
from lrm_jax.evaluation import efficiency, intervals, stored
from lrm_jax.evaluation.intervals import Estimate
from lrm_jax.evaluation.stored import Evaluation

# The seam for reports: what there is in a folder, and one of these.
find, read = stored.find, stored.read
# Of settings that differ a message names the values up to so many characters.
_MOST_CHARS = 60


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What a second evaluation has more than a first one, on the same problems.

  Attributes:
    first: its name; the one that is compared with.
    second: its name.
    problems: B.
    accuracy: mean correctness of both, in [0, 1].
    tokens: mean response tokens of both.
    difference: of accuracy, second - first, with its paired interval and the
      p-value of no difference.
    ratio: of response tokens, second / first, with its paired interval and the
      p-value of 1.
    difference_holm: the p-value of `difference`, adjusted for all rows.
    ratio_holm: that of `ratio`, likewise; a family of its own.
    aes: the efficiency score by its weights, see `efficiency.aes`.
    same_tokenizer: whether tokens are the same units; where they are not, the
      ratio compares nothing.
  """

  first: str
  second: str
  problems: int
  accuracy: tuple[float, float]
  tokens: tuple[float, float]
  difference: Estimate
  ratio: Estimate
  difference_holm: float
  ratio_holm: float
  aes: dict[str, float]
  same_tokenizer: bool


@dataclasses.dataclass(frozen=True)
class MethodComparison:
  """What a second method has more than a first one, over training seeds.

  Attributes:
    first: its name.
    second: its name.
    seeds: trained models of both.
    accuracy: means of both, in [0, 1].
    tokens: mean response tokens of both.
    difference: of accuracy; seeds and problems are resampled.
    difference_t: the same by Welch's t over seeds, these problems fixed.
    tokens_difference: of response tokens; seeds and problems are resampled.
    tokens_difference_t: the same by Welch's t over seeds.
    difference_holm: the p-value of `difference`, adjusted for all rows.
    tokens_holm: that of `tokens_difference`, likewise.
  """

  first: str
  second: str
  seeds: tuple[int, int]
  accuracy: tuple[float, float]
  tokens: tuple[float, float]
  difference: Estimate
  difference_t: Estimate
  tokens_difference: Estimate
  tokens_difference_t: Estimate
  difference_holm: float
  tokens_holm: float


def compare(
  evaluations: Sequence[Evaluation],
  *,
  pairs: str = 'first',
  level: float = intervals.LEVEL,
  draws: int = intervals.DRAWS,
  seed: int = intervals.SEED,
) -> list[Comparison]:
  """Compares evaluations of the same problems, two by two.

  Args:
    evaluations: two at least, from `read`.
    pairs: 'first', each with the first; 'all', each with each before it.
    level: of intervals.
    draws: of the bootstrap.
    seed: likewise.

  Returns:
    A row a pair. P-values are adjusted by Holm over the rows, those of accuracy
    and those of tokens apart: they answer two questions.

  Raises:
    UserError: less than two, or two that cannot be compared; see `check`.
    ValueError: another word for `pairs`.
  """
  if pairs not in ('first', 'all'):
    raise ValueError(f'pairs={pairs!r}; give first or all')
  check(evaluations)
  chosen = [(evaluations[0], other) for other in evaluations[1:]]
  if pairs == 'all':
    chosen = list(itertools.combinations(evaluations, 2))
  how = {'level': level, 'draws': draws, 'seed': seed}
  rows = [_row(first, second, how) for first, second in chosen]
  differences = intervals.holm([row.difference.p for row in rows])
  ratios = intervals.holm([row.ratio.p for row in rows])
  return [
    dataclasses.replace(row, difference_holm=difference, ratio_holm=ratio)
    for row, difference, ratio in zip(rows, differences, ratios, strict=True)
  ]


def compare_methods(
  methods: Mapping[str, Sequence[Evaluation]],
  *,
  level: float = intervals.LEVEL,
  draws: int = intervals.DRAWS,
  seed: int = intervals.SEED,
) -> list[MethodComparison]:
  """Compares each method with the first, over the training seeds of both.

  Args:
    methods: name -> evaluations of its trained models, one a training seed.
    level: of intervals.
    draws: of the bootstrap.
    seed: likewise.

  Returns:
    A row a method but the first. See `intervals.seeds_difference` for what is
    taken for granted.

  Raises:
    UserError: as `compare`.
  """
  check([evaluation for group in methods.values() for evaluation in group])
  how = {'level': level, 'draws': draws, 'seed': seed}
  (name, first), *others = methods.items()
  rows = [_method_row(name, first, *other, how) for other in others]
  differences = intervals.holm([row.difference.p for row in rows])
  tokens = intervals.holm([row.tokens_difference.p for row in rows])
  return [
    dataclasses.replace(row, difference_holm=a, tokens_holm=b)
    for row, a, b in zip(rows, differences, tokens, strict=True)
  ]


def check(evaluations: Sequence[Evaluation]) -> None:
  """Refuses evaluations that did not ask the same.

  Raises:
    UserError: less than two, or settings that differ, with both values.
  """
  if len(evaluations) < 2:
    raise UserError(
      f'{len(evaluations)} evaluation to compare; give two at least'
    )
  first = evaluations[0]
  for other in evaluations[1:]:
    found = differences(first.settings, other.settings)
    if found:
      raise UserError(
        f"'{first.name}' and '{other.name}' cannot be compared: "
        f'{", ".join(found)}; evaluate both in the same way'
      )
    # Their digests agree: what differs was changed by hand.
    if first.ids != other.ids:
      raise UserError(
        f"'{first.name}' and '{other.name}' cannot be compared: their rows are "
        'of other problems than their summaries say; evaluate them again'
      )


def differences(
  first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[str]:
  """'KEY A and B' of each setting that differs."""
  flat = [configuration.flatten(dict(x)) for x in (first, second)]
  show = lambda x, key: _short(x[key]) if key in x else 'nothing'
  return [
    f'{key} {show(flat[0], key)} and {show(flat[1], key)}'
    for key in configuration.differences(dict(first), dict(second))
  ]


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= _MOST_CHARS else f'{text[:_MOST_CHARS]}...'


def _row(first: Evaluation, second: Evaluation, how: dict) -> Comparison:
  accuracy = tuple(float(x.correct.mean()) for x in (first, second))
  tokens = tuple(float(x.length.mean()) for x in (first, second))
  names = [_tokenizer(x) for x in (first, second)]
  return Comparison(
    first=first.name,
    second=second.name,
    problems=len(first.ids),
    accuracy=accuracy,
    tokens=tokens,
    difference=intervals.paired_difference(
      first.correct, second.correct, **how
    ),
    ratio=intervals.paired_ratio(first.length, second.length, **how),
    difference_holm=float('nan'),
    ratio_holm=float('nan'),
    aes=efficiency.all_aes(accuracy[1], tokens[1], accuracy[0], tokens[0]),
    same_tokenizer=names[0] == names[1],
  )


def _method_row(
  name: str,
  first: Sequence[Evaluation],
  other: str,
  second: Sequence[Evaluation],
  how: dict,
) -> MethodComparison:
  correct = [_means(group, 'correct') for group in (first, second)]
  tokens = [_means(group, 'length') for group in (first, second)]
  over_seeds = lambda pair: intervals.welch_difference(
    *(x.mean(1) for x in pair), level=how['level']
  )
  return MethodComparison(
    first=name,
    second=other,
    seeds=(len(first), len(second)),
    accuracy=tuple(float(x.mean()) for x in correct),
    tokens=tuple(float(x.mean()) for x in tokens),
    difference=intervals.seeds_difference(*correct, **how),
    difference_t=over_seeds(correct),
    tokens_difference=intervals.seeds_difference(*tokens, **how),
    tokens_difference_t=over_seeds(tokens),
    difference_holm=float('nan'),
    tokens_holm=float('nan'),
  )


def _means(group: Sequence[Evaluation], field: str) -> np.ndarray:
  """`[S, B]`: the mean of each trained model on each problem."""
  return np.stack([getattr(x, field).mean(axis=1) for x in group])


def _tokenizer(evaluation: Evaluation) -> Any:
  identity = evaluation.identity
  return identity['tokenizer'] if 'tokenizer' in identity else None
