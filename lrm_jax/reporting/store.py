"""Responses as a page holds them: columns of numbers, and texts in chunks.

Everything is gzip in base64, an alphabet without a character of HTML:

  index    uint32 N, then N bytes of JSON (the header), then the columns, each
           little-endian from a multiple of 8 bytes on
  problems JSON: [[id, question, answer], ...]
  chunk    uint32 N, then N bytes of JSON {texts, tokens, has}, padded to an
           even place; then uint16 of all its responses: lengths of tokens in
           the text, log-probabilities, entropies, advantages

`page/store.js` reads it. JSON is ASCII, so half a surrogate pair passes as it
is. A text is held once and whole: tokens are places in it.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_jax.reporting import samples
from lrm_jax.reporting.pieces import Cutter

# A chunk is closed at so many responses, or bytes before compression.
CHUNK_ROWS = 256
CHUNK_BYTES = 1 << 20
# A log-probability is kept to a thousandth of a nat, down to -65.534; so is an
# entropy. The last number stands for one that nobody knows.
RESOLUTION = 1e-3
UNKNOWN = 0xFFFF
# So is an advantage, from -32.767 to 32.767, behind this number for 0.
MIDDLE = 0x7FFF
# Bits of `has`.
TOKENS, LOGP, ENTROPY, ADVANTAGES = 1, 2, 4, 8
# (field of a row, its bit, sign, number for 0)
_NUMBERS = (
  ('logp', LOGP, -1, 0),
  ('entropy', ENTROPY, 1, 0),
  ('token_advantages', ADVANTAGES, 1, MIDDLE),
)
# Bits of the column `flags`.
IS_TRUNCATED, IS_DROPPED = 1, 2
COLUMNS = {
  'source': '<u2',
  'problem': '<u4',
  'sample': '<u4',
  'verdict': '<u1',
  'flags': '<u1',
  'length': '<u4',
  'thinking': '<u4',
  'reward': '<f4',
  'advantage': '<f4',
}


class Store:
  """Takes responses one by one; `blobs` is what goes into the page.

  Args:
    cutters: of each run, None where it has no tokenizer.

  Attributes:
    count: responses that it has.
    unspelled: of these, those whose tokens do not spell their text, though
      their run has a tokenizer.
  """

  def __init__(self, cutters: Sequence[Cutter | None]):
    self._cutters = cutters
    self._columns: dict[str, list] = {name: [] for name in COLUMNS}
    self._chunks: list[str] = []
    self._first: list[int] = []
    self._open = _Chunk()
    self.count = 0
    self.unspelled = 0

  def add(
    self, place: int, source: samples.Source, problem: int, row: samples.Row
  ) -> None:
    """Adds one response.

    Args:
      place: of the source among all.
      source: of the row.
      problem: its place among the problems.
      row: as `samples.read` gives it.
    """
    if not self._open.texts:
      self._first.append(self.count)
    for name, value in _numbers(place, problem, row).items():
      self._columns[name].append(value)
    cutter = self._cutters[source.run]
    cuts = None
    if cutter is not None:
      cuts = cutter.cut(row['response_ids'], row['response'])
      self.unspelled += cuts is None
    self._open.add(row, cuts)
    self.count += 1
    if self._open.is_full:
      self._close()

  def blobs(
    self, header: dict[str, Any], problems: Sequence[dict[str, str]]
  ) -> dict[str, str]:
    """{name: text} of all: `index`, `problems`, `chunk-0`, ...

    Args:
      header: more that scripts need.
      problems: `id`, `question`, `answer` of each.
    """
    if self._open.texts:
      self._close()
    named = [[row['id'], row['question'], row['answer']] for row in problems]
    found = {
      'index': packed(self._index(header)),
      'problems': packed(json.dumps(named).encode()),
    }
    for number, text in enumerate(self._chunks):
      found[f'chunk-{number}'] = text
    return found

  def _close(self) -> None:
    self._chunks.append(packed(self._open.content()))
    self._open = _Chunk()

  def _index(self, header: dict[str, Any]) -> bytes:
    columns, place, parts = {}, 0, []
    for name, kind in COLUMNS.items():
      values = np.array(self._columns[name], kind).tobytes()
      columns[name] = place
      values += b'\0' * (-len(values) % 8)
      parts.append(values)
      place += len(values)
    more = {'count': self.count, 'columns': columns, 'chunks': self._first}
    return _headed(header | more, 8) + b''.join(parts)


class _Chunk:
  """Responses that are not yet compressed."""

  def __init__(self):
    self.texts: list[str] = []
    self._tokens: list[int] = []
    self._has: list[int] = []
    self._numbers: dict[str, list[np.ndarray]] = {
      'cuts': [],
      **{name: [] for name, _, _, _ in _NUMBERS},
    }
    self._bytes = 0

  @property
  def is_full(self) -> bool:
    return len(self.texts) >= CHUNK_ROWS or self._bytes >= CHUNK_BYTES

  def add(self, row: samples.Row, cuts: np.ndarray | None) -> None:
    has, tokens = 0, 0
    if cuts is not None:
      has, tokens = TOKENS, len(cuts)
      self._numbers['cuts'].append(cuts)
      for name, bit, sign, zero in _NUMBERS:
        if name in row:
          has |= bit
          self._numbers[name].append(_quantized(row[name], sign, zero))
    self.texts.append(row['response'])
    self._tokens.append(tokens)
    self._has.append(has)
    self._bytes += len(row['response']) + 6 * tokens

  def content(self) -> bytes:
    head = {'texts': self.texts, 'tokens': self._tokens, 'has': self._has}
    numbers = [
      values.astype('<u2').tobytes()
      for name in self._numbers
      for values in self._numbers[name]
    ]
    return _headed(head, 2) + b''.join(numbers)


def packed(content: bytes) -> str:
  """Gzip in base64; equal contents give equal texts."""
  return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _headed(header: dict[str, Any], multiple: int) -> bytes:
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-(4 + len(text)) % multiple)
  return len(text).to_bytes(4, 'little') + text


def _numbers(place: int, problem: int, row: samples.Row) -> dict[str, Any]:
  is_dropped = 'kept' in row and not row['kept']
  flags = IS_TRUNCATED * row['truncated'] + IS_DROPPED * is_dropped
  thinking = row['thinking_length'] if 'thinking_length' in row else 0
  return {
    'source': place,
    'problem': problem,
    'sample': row['sample'],
    'verdict': samples.verdict(row),
    'flags': flags,
    'length': row['length'],
    'thinking': thinking,
    'reward': samples.number(row, 'reward'),
    'advantage': samples.number(row, 'advantage'),
  }


def _quantized(
  values: Sequence[float | None], sign: int, zero: int
) -> np.ndarray:
  """`[T]` uint16 of `zero + sign * value`; what is beyond is at the end."""
  found = np.array([np.nan if x is None else x for x in values], np.float64)
  whole = np.clip(zero + np.round(sign * found / RESOLUTION), 0, UNKNOWN - 1)
  return np.where(np.isnan(found), UNKNOWN, whole).astype(np.uint16)
