"""What a table of a paper is made of; `experiments/NAME/table.py` states it.

  Paper    what it is called, what it says, and where it says so
  Run      one way of training, on several seeds
  Claim    a sentence, and what of our numbers would have to hold for it

A claim is *reproduced* if the 95 % interval of every one of its conditions is
on the right side, *not reproduced* if that of one is on the wrong side, and
*undecided* otherwise. A condition may be a premise: what must be so for the
claim to say anything. If the interval of a premise is not on its right side,
the claim is *not testable here*.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from lrm_jax.papers.estimates import Estimate

VERDICTS = (
  'reproduced',
  'not reproduced',
  'undecided',
  'not testable here',
)


@dataclasses.dataclass(frozen=True)
class Run:
  """One way of training.

  Attributes:
    name: in tables, and of the workdir.
    config: file, from the root of the source.
    start: name of the model that it starts from: an embedded one, one of
      `Paper.models`, or another run of the same paper, whose seed is its own.
    changes: keys of the config and their values.
    seeds: of all streams of a run.
  """

  name: str
  config: str
  start: str = 'tiny_lrm'
  changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
  seeds: Sequence[int] = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Condition:
  """One thing that has to hold.

  Attributes:
    text: what is estimated, with its unit.
    estimate: of the results, by the names of the runs.
    bound: in the same unit.
    is_above: whether it has to be above the bound, or else below it.
    is_premise: see above.
  """

  text: str
  estimate: Callable[[Mapping], Estimate]
  bound: float
  is_above: bool = False
  is_premise: bool = False


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence of the paper, at our scale.

  Attributes:
    text: what is claimed.
    paper: the numbers of the paper, with the place.
    conditions: all of them have to hold.
  """

  text: str
  paper: str
  conditions: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True)
class Paper:
  """A table.

  Attributes:
    name: of its folder.
    runs: in the order of the table.
    claims: in the order of the table.
    models: config files of `lrm sft`, by the names that runs start from.
    evaluation: keys of the config that all runs share, and their values.
  """

  name: str
  runs: tuple[Run, ...]
  claims: tuple[Claim, ...]
  models: Mapping[str, str] = dataclasses.field(default_factory=dict)
  evaluation: Mapping[str, object] = dataclasses.field(default_factory=dict)


def verdict(claim: Claim, estimates: Sequence[Estimate]) -> str:
  """One of VERDICTS.

  Args:
    claim: the sentence.
    estimates: of its conditions, in their order.
  """
  sides = [
    side(condition, estimate)
    for condition, estimate in zip(claim.conditions, estimates, strict=True)
  ]
  premises = [c.is_premise for c in claim.conditions]
  if any(p and s != 'holds' for p, s in zip(premises, sides, strict=True)):
    return 'not testable here'
  if 'fails' in sides:
    return 'not reproduced'
  return 'undecided' if 'open' in sides else 'reproduced'


def side(condition: Condition, estimate: Estimate) -> str:
  """'holds', 'fails' or 'open': where the interval is, seen from the bound."""
  low, high = estimate.low, estimate.high
  above, below = low >= condition.bound, high <= condition.bound
  if condition.is_above:
    above, below = below, above
  # Now `below` is the right side.
  if below:
    return 'holds'
  return 'fails' if above else 'open'
