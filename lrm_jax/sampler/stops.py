"""Texts that end a response, wherever token borders fall in them."""

import dataclasses
from collections.abc import Callable, Sequence

# Tokens before a window, so that what a tokenizer does to the first one of a
# text (such as dropping its space) is not seen inside the window.
MARGIN = 2
# What bytes that are no character are decoded to.
UNREADABLE = '\ufffd'


@dataclasses.dataclass(frozen=True)
class Stops:
  """Strings that end a response.

  Attributes:
    strings: none of them empty.
    decode: of a tokenizer, ids to text.
  """

  strings: tuple[str, ...]
  decode: Callable[[Sequence[int]], str]

  def length(self, ids: Sequence[int], seen: int) -> int | None:
    """Tokens up to and with the first that completes a string; None without.

    Args:
      ids: of the response so far.
      seen: how many of these are known to contain no string.
    """
    start = self._window(ids, seen)
    if not self._has(ids[start:]):
      return None
    low, high = seen, len(ids)
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (
        (low, middle) if self._has(ids[start:middle]) else (middle, high)
      )
    return high

  def _size(self, ids: Sequence[int]) -> int:
    return len(self.decode(ids).replace(UNREADABLE, '').encode())

  def _has(self, ids: Sequence[int]) -> bool:
    text = self.decode(ids)
    return any(string in text for string in self.strings)

  def _window(self, ids: Sequence[int], seen: int) -> int:
    """The first token that a string which ends behind `seen` can begin in."""
    # In bytes: a token may be a part of a character, and is then decoded to a
    # sign of its own that stands for no text.
    longest = max(len(string.encode()) for string in self.strings)
    count = longest
    # Tokens without any text of their own do not count.
    while count < seen and self._size(ids[seen - count : seen]) < longest:
      count *= 2
    return max(0, seen - count - MARGIN)
