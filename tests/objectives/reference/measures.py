"""Measures, one piece and one token at a time; separators are plain here."""

import hashlib
import zlib


def paragraphs(response, separator):
  count, rest = 0, response.thinking
  while rest:
    piece, _, rest = rest.partition(separator)
    count += len(piece.split()) > 0
  return count


def answer_class(response):
  """Of boxed answers and short last lines."""
  if '</think>' not in response.text:
    return -1
  answer = response.text.split('</think>')[1].strip()
  if '{' in answer:
    answer = answer.split('{')[1].split('}')[0]
  spelled = ''.join(letter for letter in answer if not letter.isspace())
  return int(hashlib.sha256(spelled.encode()).hexdigest()[:6], 16)


def compressibility(response):
  data = response.thinking.encode()
  if not data:
    return 1
  # A zlib stream is DEFLATE with a head of 2 bytes and a checksum of 4.
  ratio = (len(zlib.compress(data, 9)) - 6) / len(data)
  return 0.1 + 0.9 * min(ratio, 1)


def answer_prefix(response, separator):
  """Of chain arithmetic only: a piece is `label:calculation=result`."""
  stop = 0
  for piece in response.thinking.split(separator):
    stop += len(piece)
    if '=' in piece and piece.split('=')[1] == response.gold:
      break
    stop += len(separator)
  else:
    return -1
  tokens = 0
  while len(response.tokenizer.decode(response.ids[:tokens])) < stop:
    tokens += 1
  return tokens


def longest_paragraph(response, separator):
  longest, rest = 0, response.thinking
  while rest:
    piece, _, rest = rest.partition(separator)
    if piece.split():
      longest = max(longest, len(response.tokenizer.encode(piece)))
  return longest
