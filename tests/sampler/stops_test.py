"""Texts that end a response, over all ways to cut it into tokens."""

import numpy as np
import pytest

from lrm_jax.sampler.stops import Stops

WORDS = ['a', 'b', 'ab', 'ba', '', 'aab', ' a', 'é']


def _decode(ids):
  return ''.join(WORDS[i] for i in ids)


def _first(strings, ids):
  """Tokens until one of the strings is complete, by trying every length."""
  for n in range(1, len(ids) + 1):
    if any(string in _decode(ids[:n]) for string in strings):
      return n
  return None


@pytest.mark.parametrize(
  'strings', [('abba',), ('bb', 'é a'), ('a',), ('aabaab', 'éé')]
)
def test_it_is_the_first_token_that_completes_a_text(strings):
  random = np.random.default_rng(0)
  stops, found = Stops(strings, _decode), 0
  for _ in range(300):
    ids = random.integers(0, len(WORDS), 24).tolist()
    seen, length = 0, None
    # Some tokens at a time, as chunks bring them.
    while seen < len(ids) and length is None:
      upto = min(len(ids), seen + int(random.integers(1, 9)))
      length = stops.length(ids[:upto], seen)
      seen = upto
    assert length == _first(strings, ids)
    found += length is not None
  assert 30 < found


def test_tokens_without_text_do_not_hide_a_border():
  stops = Stops(('ab',), _decode)
  ids = [0] + [4] * 40 + [1]
  assert stops.length(ids, len(ids) - 1) == len(ids)


def test_a_text_that_was_seen_in_time_is_not_looked_for_again():
  seen = []
  stops = Stops(('ab',), lambda ids: seen.append(len(ids)) or _decode(ids))
  assert stops.length([1] * 5000, 4990) is None
  assert max(seen) < 40


def test_tokens_that_are_parts_of_characters():
  """Two characters of four bytes, a token a byte, looked at after each."""
  decode = lambda ids: bytes(ids).decode('utf-8', errors='replace')
  stops = Stops(('😀😀',), decode)
  ids = list('x😀y😀😀'.encode())
  for step in (1, 2, 3, 5, 7):
    found, seen = None, 0
    while found is None:
      upto = min(len(ids), seen + step)
      found, seen = stops.length(ids[:upto], seen), upto
    assert found == len(ids)
