"""What goes into a page comes out of it again."""

import base64
import gzip
import json

import numpy as np

from lrm_jax.reporting import pieces, samples, store
from tests.reporting import folders

SOURCE = samples.Source(0, 'training', 3, None)


def unpacked(text):
  return gzip.decompress(base64.b64decode(text))


def headed(content):
  size = int.from_bytes(content[:4], 'little')
  return json.loads(content[4 : 4 + size]), content[4 + size :]


def held(rows, cutter=None):
  found = store.Store([cutter])
  for number, row in enumerate(rows):
    found.add(0, SOURCE, number, row)
  return found


def columns(blobs):
  """The columns of the index, as arrays."""
  head, rest = headed(unpacked(blobs['index']))
  found = {}
  for name, kind in store.COLUMNS.items():
    begin = head['columns'][name]
    assert begin % 8 == 0
    found[name] = np.frombuffer(rest, kind, head['count'], begin)
  return head, found


def test_columns():
  rows = [
    folders.training_row(3, sample=7),
    folders.training_row(
      3, correct=False, truncated=True, kept=False, reward=None, advantage=None
    ),
  ]
  blobs = held(rows).blobs({'runs': ['a']}, [])
  head, found = columns(blobs)
  assert head['runs'] == ['a'] and head['count'] == 2
  # What is behind the header may begin anywhere: 8 divides it.
  assert (len(unpacked(blobs['index'])) - 4) % 4 == 0
  assert found['sample'].tolist() == [7, 0]
  assert found['verdict'].tolist() == [samples.RIGHT, samples.TRUNCATED]
  both = store.IS_TRUNCATED | store.IS_DROPPED
  assert found['flags'].tolist() == [0, both]
  assert found['length'].tolist() == [rows[0]['length']] * 2
  assert found['reward'][0] == 1 and np.isnan(found['reward'][1])
  assert found['advantage'][0] == 0.5 and np.isnan(found['advantage'][1])
  assert found['problem'].tolist() == [0, 1]


def test_a_chunk():
  rows = [folders.row() for _ in range(3)]
  rows[1]['response'] = '\ud800 <script>'
  rows[1]['entropy'] = [0.5] * len(rows[1]['response_ids'])
  del rows[2]['logp']
  cutter = pieces.Cutter(folders.tokenizer())
  found = held(rows, cutter)
  blobs = found.blobs({}, [{'id': 'i', 'question': 'q\u2028', 'answer': 'a'}])
  head, rest = headed(unpacked(blobs['chunk-0']))
  assert head['texts'] == [row['response'] for row in rows]
  # A lone half of a pair is no text of any tokenizer.
  assert head['has'] == [store.TOKENS | store.LOGP, 0, store.TOKENS]
  assert found.unspelled == 1
  length = rows[0]['length']
  assert head['tokens'] == [length, 0, length]
  numbers = np.frombuffer(rest, '<u2')
  assert len(numbers) == 3 * length
  assert numbers[:length].sum() == len(rows[0]['response'])
  logp = -store.RESOLUTION * numbers[2 * length :]
  np.testing.assert_allclose(logp, rows[0]['logp'], atol=1e-3)
  assert json.loads(unpacked(blobs['problems'])) == [['i', 'q\u2028', 'a']]


def test_chunks_are_closed(monkeypatch):
  monkeypatch.setattr(store, 'CHUNK_ROWS', 2)
  blobs = held([folders.row()] * 5).blobs({}, [])
  head, _ = columns(blobs)
  assert head['chunks'] == [0, 2, 4]
  assert [n for n in blobs if n.startswith('chunk')] == [
    f'chunk-{n}' for n in range(3)
  ]
  monkeypatch.setattr(store, 'CHUNK_BYTES', 10)
  head, _ = columns(held([folders.row()] * 3).blobs({}, []))
  assert head['chunks'] == [0, 1, 2]


def test_numbers_of_tokens():
  values = [0.0, -0.0004, -1.2345, -100.0, None, 1e-9, float('-inf')]
  found = store._quantized(values, -1, 0)
  assert found.tolist() == [0, 0, 1234, 65534, 65535, 0, 65534]
  found = store._quantized([0.0, 1.5, -1.5, -99.0, 99.0], 1, store.MIDDLE)
  assert found.tolist() == [32767, 34267, 31267, 0, 65534]


def test_nothing_of_html_is_in_a_blob():
  hostile = '</script><!--'
  row = folders.row(hostile, id=hostile, question=hostile, answer=hostile)
  blobs = held([row]).blobs({'runs': [hostile]}, [row])
  for text in blobs.values():
    assert set(text) <= set(
      'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/='
    )


def test_equal_rows_give_equal_pages():
  blobs = [held([folders.row()] * 3).blobs({}, []) for _ in range(2)]
  assert blobs[0] == blobs[1]
