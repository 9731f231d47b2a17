"""Tokens are places in a text, which they spell exactly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrm_jax.reporting import pieces, workdirs
from lrm_jax.tokenization import base
from tests.reporting import folders
from tests.tokenization import tiny as vocabularies

TEXTS = [
  'What is 1 + 2 ?',
  ' wait\n\n  wait ',
  'Käse – 日本 🧀 \\frac{1}{2}\t\u2028',
  '🧀🧀 e\u0301 \u200d👩‍👩‍👧',
  '<think> 4 times 5</think> 20',
  'a\x00b \u202e reversed',
  '',
]


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
  folder = tmp_path_factory.mktemp('vocabularies')
  found = {}
  for name, write, options in (
    ('bytes', vocabularies.write_hf, {}),
    (
      'pieces',
      vocabularies.write_spm,
      {'byte_fallback': True, 'vocab_size': 400},
    ),
    (
      'prefixed',
      vocabularies.write_spm,
      {
        'byte_fallback': True,
        'vocab_size': 400,
        'add_dummy_prefix': True,
        'remove_extra_whitespaces': True,
      },
    ),
  ):
    (folder / name).mkdir()
    found[name] = base.load(write(folder / name, **options))
  return found


KINDS = ('bytes', 'pieces', 'prefixed')


def check(cutter, tokenizer, ids):
  """The parts of the text of some ids, None if they do not spell it."""
  text = tokenizer.decode(ids)
  cuts = cutter.cut(ids, text)
  if cuts is None:
    return None
  assert len(cuts) == len(ids)
  units = text.encode('utf-16-le', 'surrogatepass')
  assert 2 * int(cuts.astype(int).sum()) == len(units)
  ends = (2 * cuts.astype(int)).cumsum().tolist()
  begins = [0, *ends][: len(ends)]
  # No character is cut in two.
  parts = [
    units[a:b].decode('utf-16-le') for a, b in zip(begins, ends, strict=True)
  ]
  assert ''.join(parts) == text
  return parts


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('text', TEXTS)
def test_texts(kind, text, tokenizers):
  tokenizer = tokenizers[kind]
  ids = tokenizer.encode(text)
  assert check(pieces.Cutter(tokenizer), tokenizer, ids) is not None


@pytest.mark.parametrize('kind', KINDS)
def test_what_a_model_may_sample(kind, tokenizers):
  """Any ids: half characters, ends in the middle, ids without a text."""
  tokenizer = tokenizers[kind]
  cutter = pieces.Cutter(tokenizer)
  outcomes = []

  @settings(max_examples=300, deadline=None)
  @given(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=30))
  def run(ids):
    outcomes.append(check(cutter, tokenizer, ids) is not None)

  run()
  assert sum(outcomes) >= 0.9 * len(outcomes)


def test_pieces_by_hand(tokenizers):
  tokenizer = tokenizers['bytes']
  cutter = pieces.Cutter(tokenizer)
  ids = [*tokenizer.encode('wait 🧀'), tokenizer.eos_ids[0]]
  parts = check(cutter, tokenizer, ids)
  assert ''.join(parts) == 'wait 🧀'
  # Four bytes of one character, and an end without a text.
  assert parts[-5:] == ['', '', '', '🧀', '']
  # Two units of UTF-16.
  assert cutter.cut(ids, 'wait 🧀').tolist()[-2] == 2


def test_ids_of_another_text(tokenizers):
  cutter = pieces.Cutter(tokenizers['bytes'])
  ids = tokenizers['bytes'].encode('wait')
  assert cutter.cut(ids, 'what') is None
  assert cutter.cut([], 'x') is None
  assert cutter.cut([], '').tolist() == []


def test_the_tokenizer_of_a_run(tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  (run,) = workdirs.read_all([str(folder)])
  cutter, reason = pieces.of_run(run)
  assert cutter is not None and reason == ''
  # That of the trained model comes first; what cannot be used does not count.
  (folder / 'model').mkdir()
  cutter, reason = pieces.of_run(run)
  assert cutter is not None
  (other,) = workdirs.read_all([str(folders.write_eval(tmp_path / 'eval'))])
  assert pieces.of_run(other)[0] is not None


@pytest.mark.parametrize(
  ('path', 'reason'),
  [
    ('nowhere', "model 'nowhere': no such directory"),
    ('x' * 5000, 'File name too long'),
    (None, 'its config names no model'),
    (['x'], 'its config names no model'),
    ('gs://bucket/model', 'is in a bucket, and the run is not; put'),
  ],
)
def test_why_there_is_none(path, reason, tmp_path):
  folder = folders.write_run(tmp_path / 'run')
  (run,) = workdirs.read_all([str(folder)])
  run.config['model']['path'] = path
  cutter, found = pieces.of_run(run)
  assert cutter is None and reason in found
