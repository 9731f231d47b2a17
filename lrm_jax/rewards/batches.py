"""The pairs of one call of a grader, and what has become of them."""

import collections
import dataclasses


@dataclasses.dataclass
class Batch:
  """The pairs of one call.

  Attributes:
    waiting: those that nobody has compared yet.
    results: pair -> True, False, or None where a worker was lost on it.
    again: those that a worker was lost on by no fault of theirs.
    tried: those that have been in `again`.
  """

  waiting: collections.deque[tuple[str, str]]
  results: dict = dataclasses.field(default_factory=dict)
  again: collections.deque = dataclasses.field(
    default_factory=collections.deque
  )
  tried: set = dataclasses.field(default_factory=set)

  def lose(self, job: tuple[str, str], is_to_blame: bool) -> None:
    """A worker was lost on this pair, and whether the pair is to blame."""
    if is_to_blame or job in self.tried:
      self.results[job] = None
    else:
      self.tried.add(job)
      self.again.append(job)
