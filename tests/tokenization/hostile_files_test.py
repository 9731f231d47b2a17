"""Tokenizer files that a stranger wrote: one line, or harmless."""

import base64
import json
import os
import time

import pytest

from lrm_jax.checkpoints import huggingface
from lrm_jax.tokenization import base, hf
from tests.checkpoints.config_json_test import read
from tests.checkpoints.hf_models import refusal
from tests.tokenization import tiny

WORDS = {'type': 'WordLevel', 'vocab': {'a': 0, '</s>': 1}, 'unk_token': 'a'}


def write(directory, settings=None, **changes):
  """A vocabulary of two words, with other fields in its file."""
  fields = {
    'version': '1.0',
    'added_tokens': [],
    'normalizer': None,
    'pre_tokenizer': None,
    'post_processor': None,
    'decoder': None,
    'model': WORDS,
  }
  stated = {'eos_token': '</s>'} | ({} if settings is None else settings)
  tiny.write_json(directory, 'tokenizer.json', fields | changes)
  tiny.write_json(directory, 'tokenizer_config.json', stated)
  return directory


def model(**changes):
  return {'model': WORDS | changes}


def split(pattern):
  pattern = {'type': 'Split', 'pattern': {'Regex': pattern}}
  return {'pre_tokenizer': pattern | {'behavior': 'Isolated', 'invert': False}}


def replacing(content, times):
  one = {'type': 'Replace', 'pattern': {'String': 'a'}, 'content': content}
  return [one] * times


def charsmap(content):
  text = base64.b64encode(content).decode()
  return {'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': text}}


@pytest.mark.parametrize(
  'changes',
  [
    model(vocab={'a': 2**40}),
    model(vocab={'a': -1}),
    model(vocab={'a': 0.5}),
    model(vocab=['a'] * 1000),
    model(type='Pickle'),
    {'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a b']}},
    split('('),
    split('(' * 20_000 + 'a' + ')' * 20_000),
    charsmap(b''),
    charsmap(b'\0\0\0'),
  ],
)
def test_vocabularies_that_cannot_be(tmp_path, changes):
  message = refusal(base.load, write(tmp_path, **changes))
  assert 'tokenizer.json: not a tokenizer of the tokenizers library' in message
  assert len(message) < 700


@pytest.mark.parametrize('text', ['[' * 200_000, '{"a":' * 200_000, '', '\0'])
def test_what_is_no_json(tmp_path, text):
  (write(tmp_path) / 'tokenizer.json').write_text(text)
  message = refusal(base.load, tmp_path)
  assert 'not a tokenizer of the tokenizers library' in message


def test_a_regular_expression_that_runs_away(tmp_path):
  """2^60 ways to split sixty letters; its engine gives up."""
  tokenizer = base.load(write(tmp_path, **split('(a|a)*1')))
  start = time.monotonic()
  message = refusal(tokenizer.encode, 'a' * 60 + ' b1')
  assert 'retry-limit-in-match' in message and 'export it again' in message
  assert time.monotonic() - start < 20


def test_a_word_without_a_token(tmp_path):
  unknown = {'type': 'WordLevel', 'vocab': WORDS['vocab'], 'unk_token': 'no'}
  tokenizer = base.load(write(tmp_path, model=unknown))
  message = refusal(tokenizer.encode, 'b')
  assert 'not a tokenizer of the tokenizers library (WordLevel error' in message


@pytest.mark.parametrize('part', ['normalizer', 'decoder'])
@pytest.mark.parametrize(
  'steps', [replacing('aa', 8), replacing('a' * 4096, 1), replacing('', 9999)]
)
def test_replacements_that_multiply_a_text(tmp_path, part, steps):
  key = 'normalizers' if part == 'normalizer' else 'decoders'
  whole = {'type': 'Sequence', key: steps}
  directory = write(tmp_path, **{part: whole})
  if len(steps) > 100:
    assert base.load(directory).encode('b') == [0]
    return
  message = refusal(base.load, directory)
  assert 'can make a text more than 4096 times as long; export' in message


def test_replacements_of_real_vocabularies(tmp_path):
  steps = [
    {'type': 'Prepend', 'prepend': '▁'},
    {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
  ]
  whole = {'type': 'Sequence', 'normalizers': steps}
  assert base.load(write(tmp_path, normalizer=whole)).encode('a b') == [0]
  assert hf._growth(whole) == 4


def test_one_gigantic_id(tmp_path):
  """The largest that a file can state: refused beside any model."""
  tokenizer = base.load(
    write(tmp_path, **model(vocab={'a': 0, '</s>': 2**32 - 1}))
  )
  assert tokenizer.encode('a') == [0]
  message = refusal(huggingface.fit_vocabulary, read('llama'), tokenizer)
  assert 'the tokenizer has 4294967296 ids but the model only' in message


def test_many_added_tokens_take_no_time(tmp_path):
  """One table for all; one for each would take minutes."""
  added = {str(i): {'content': f'<{i}>'} for i in range(2, 20_002)}
  start = time.monotonic()
  tokenizer = base.load(write(tmp_path, {'added_tokens_decoder': added}))
  assert tokenizer.encode('<20001>') == [20_001]
  assert time.monotonic() - start < 20


@pytest.mark.parametrize('key', ['9' * 5000, '-1', '٣', '1.0', '', ' 1', 'x'])
def test_ids_of_added_tokens(tmp_path, key):
  added = {'added_tokens_decoder': {key: {'content': 'a'}}}
  message = refusal(base.load, write(tmp_path, added))
  assert 'must be an object keyed by token ids; export' in message


@pytest.mark.parametrize('value', ['x', -1, True, 1.5, [1, 'x'], {}])
def test_ids_that_end_a_response(tmp_path, value):
  tiny.write_json(
    write(tmp_path), 'generation_config.json', {'eos_token_id': value}
  )
  message = refusal(base.load, tmp_path)
  assert f'eos_token_id is {value!r}; expected a token id or a list' in message


@pytest.mark.parametrize(
  ('name', 'content', 'words'),
  [
    ('tokenizer_config.json', b'[' * 100_000, 'not JSON (nested too deep)'),
    ('tokenizer_config.json', b'{"a": ' + b'9' * 5000, 'not JSON'),
    ('generation_config.json', b'\xff', 'not JSON'),
    ('chat_template.jinja', b'\xff', 'not UTF-8'),
  ],
)
def test_settings_that_cannot_be_read(tmp_path, name, content, words):
  (write(tmp_path) / name).write_bytes(content)
  message = refusal(base.load, tmp_path)
  assert f'{name}: {words}' in message and 'export the file again' in message


@pytest.mark.parametrize(
  'template',
  [
    [{'name': 'default', 'template': 1}],
    [{'name': 1, 'template': 'x'}],
    [{'name': ['default'], 'template': 'x'}],
    [{'name': 'default'}],
    ['x'],
    5,
    {'default': 'x'},
  ],
)
def test_chat_templates_that_are_none(tmp_path, template):
  message = refusal(base.load, write(tmp_path, {'chat_template': template}))
  assert 'a list of objects with the texts "name" and "template"' in message


@pytest.mark.parametrize(
  'name', ['merges.txt', 'vocab.json', 'tokenizer_config.json']
)
def test_no_file_of_yours_is_copied_with_a_model(tmp_path, name):
  """A link in a stranger's folder, which an export would publish."""
  secret = tmp_path / 'secret'
  secret.write_text('{"key": "mine"}')
  (tmp_path / 'model').mkdir()
  directory = write(tmp_path / 'model')
  (directory / name).unlink(missing_ok=True)
  (directory / name).symlink_to('../secret')
  message = refusal(base.load, directory)
  assert f'{name}: a link out of its folder, to a file that would be' in message
  assert 'mine' not in message


@pytest.mark.parametrize('name', ['merges.txt', 'tokenizer_config.json'])
def test_pipes_are_not_waited_for(tmp_path, name):
  (write(tmp_path) / name).unlink(missing_ok=True)
  os.mkfifo(tmp_path / name)
  message = refusal(base.load, tmp_path)
  assert f'{name}: cannot be read (not a regular file)' in message


@pytest.mark.parametrize(
  'content', [b'', b'\0', b'\x0a' * 100_000, b'\x0a\xff\xff\xff\xff\x0fx']
)
def test_what_is_no_sentencepiece_model(tmp_path, content):
  (tmp_path / 'tokenizer.model').write_bytes(content)
  message = refusal(base.load, tmp_path)
  assert 'tokenizer.model: not a SentencePiece model; download' in message


def test_nothing_of_a_vocabulary_is_run(tmp_path):
  """No code of a model is ever imported, whatever its files ask for."""
  settings = {
    'auto_map': {'AutoTokenizer': ['evil.Evil', None]},
    'tokenizer_class': 'Evil',
    'trust_remote_code': True,
  }
  directory = write(tmp_path, settings)
  (directory / 'evil.py').write_text('raise SystemExit(7)')
  assert json.dumps(base.load(directory).encode('a')) == '[0]'
