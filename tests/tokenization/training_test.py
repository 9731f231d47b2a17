"""The vocabulary of a new model: what is one token, and what comes back."""

import random

import pytest

from lrm_jax.data import prompts
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from lrm_jax.tokenization import base, training
from tests import bits

LEVELS = tuple(range(1, 13))
STYLE = chain_arithmetic.Style(slip=0.1, recheck=0.4, again=0.5)


def _texts(count=250):
  for index in range(count):
    problem = chain_arithmetic.make_problem(index, 'train', LEVELS)
    trace = chain_arithmetic.trace(problem, STYLE, random.Random(index))
    yield f'{problem.question}<think>{trace}'


def _train(directory, vocab_size=192):
  training.train(
    _texts(),
    directory,
    vocab_size=vocab_size,
    symbols=chain_arithmetic.SYMBOLS,
  )


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp('vocabulary') / 'made' / 'here'
  _train(directory)
  return directory


@pytest.fixture(scope='module')
def tokenizer(directory):
  return base.load(directory)


def test_size(tokenizer):
  # Symbols and characters come to about 150; there is enough to merge.
  assert 150 < tokenizer.vocab_size <= 192


def test_every_number_is_one_token_wherever_it_stands(tokenizer):
  ids = set()
  for number in range(100):
    (one,) = tokenizer.encode(str(number))
    ids.add(one)
    for before, after in (('=', ' '), ('+', '='), ('{', '}'), (':', '*')):
      around = tokenizer.encode(f'{before}{number}{after}')
      assert one in around, number
  assert len(ids) == 100


@pytest.mark.parametrize('label', chain_arithmetic.LABELS)
def test_every_label_is_one_token(tokenizer, label):
  assert len(tokenizer.encode(f' {label}:')) == 1
  assert len(tokenizer.encode(f' {label}:7+8=15')) == 6


@pytest.mark.parametrize('symbol', training.PROMPT_SYMBOLS)
def test_every_prompt_symbol_is_one_token(tokenizer, symbol):
  (one,) = tokenizer.encode(symbol)
  assert tokenizer.encode(f'12{symbol}34')[1] == one
  assert tokenizer.decode([one]) == symbol


def test_ends(tokenizer):
  (eos,) = tokenizer.eos_ids
  assert tokenizer.encode(training.EOS) == [eos]
  assert tokenizer.decode([eos]) == ''
  assert tokenizer.pad_id == eos
  (close,) = base.think_close_ids(tokenizer)
  assert tokenizer.encode('</think>') == [close]


def test_traces_come_back_unchanged(tokenizer):
  for index in range(40):
    problem = chain_arithmetic.make_problem(index, 'heldout', LEVELS)
    trace = chain_arithmetic.trace(problem, STYLE, random.Random(index))
    for text in (trace, problem.question):
      ids = tokenizer.encode(text)
      assert tokenizer.decode(ids) == text
      assert max(ids) < tokenizer.vocab_size
  # Spaces are text like any other: leading, doubled, trailing.
  assert tokenizer.decode(tokenizer.encode('  Wait,  12 ')) == '  Wait,  12 '


def test_the_chat_template_opens_thinking(tokenizer):
  prompt = prompts.format_prompt(tokenizer, 'Start=1 a:+2')
  assert prompt == '<|User|>Start=1 a:+2<|Assistant|><think>'
  ids = prompts.encode_prompt(tokenizer, 'Start=1 a:+2')
  assert ids[-1:] == tokenizer.encode('<think>')
  assert ids[:1] == tokenizer.encode('<|User|>')


def test_the_same_texts_give_the_same_files(directory, tmp_path):
  _train(tmp_path)
  names = sorted(path.name for path in directory.iterdir())
  assert names == ['tokenizer.model', 'tokenizer_config.json']
  assert bits.digests(tmp_path) == bits.digests(directory)


def test_a_vocabulary_too_small_for_its_symbols(tmp_path):
  with pytest.raises(UserError) as info:
    _train(tmp_path / 'small', vocab_size=50)
  assert str(info.value) == (
    'tokenizer: vocab_size=50 does not hold 108 symbols and every character '
    'of the corpus; raise it'
  )
  assert not (tmp_path / 'small').exists()
