"""What every contender is asked to do, as a JSON file they all read.

Nothing is imported that some contender's environment may lack.
"""

import dataclasses
import json
import pathlib
import zlib
from collections.abc import Callable, Sequence

THINK = 3  # the last token of every prompt


@dataclasses.dataclass(frozen=True)
class Workload:
  """Prompts, how many responses each gets, and where these end.

  Attributes:
    model: directory of the checkpoint.
    prompts: token ids.
    samples: responses to each prompt.
    cap: tokens a response has at most.
    eos_id: ends a response, and belongs to it.
    pad_id: fills rows; never sampled.
  """

  model: str
  prompts: list[list[int]]
  samples: int
  cap: int
  eos_id: int
  pad_id: int

  @property
  def rows(self) -> int:
    """Responses in all."""
    return len(self.prompts) * self.samples

  @property
  def width(self) -> int:
    """Tokens of the longest prompt."""
    return max(map(len, self.prompts))

  @property
  def repeated(self) -> list[list[int]]:
    """Each prompt as often as it gets a response, one after the other."""
    return [ids for ids in self.prompts for _ in range(self.samples)]

  def padded(self) -> tuple[list[list[int]], list[int]]:
    """Prompts, right-padded to `width`, and their lengths."""
    fill = lambda ids: ids + [self.pad_id] * (self.width - len(ids))
    return [fill(ids) for ids in self.prompts], [len(p) for p in self.prompts]

  def useful(self, row: Sequence[int]) -> int:
    """Tokens of a response: up to its end, that included, or its cap."""
    row = list(row)[: self.cap]
    return row.index(self.eos_id) + 1 if self.eos_id in row else len(row)

  def save(self, path: pathlib.Path) -> None:
    """Writes the file that `load` reads."""
    path.write_text(json.dumps(dataclasses.asdict(self)))


def load(path: str) -> Workload:
  """Reads a workload."""
  return Workload(**json.loads(pathlib.Path(path).read_text()))


def to_text(ids: Sequence[int]) -> str:
  """A prompt as text; the tokenizers give the same ids back."""
  words = ['<think>' if i == THINK else f'w{i}' for i in ids]
  return ' '.join(words)


def check_texts(work: Workload, encode: Callable[[str], list[int]]) -> None:
  """Raises where a tokenizer does not give the ids of the prompts back."""
  for ids in work.prompts:
    found = encode(to_text(ids))
    if found != ids:
      raise ValueError(f'{to_text(ids)!r} is {ids}, but encoded {found}')


def reward(text: str) -> float:
  """1 for half of all texts, 0 for the others, whatever their lengths."""
  return float(zlib.crc32(text.encode()) % 2)
