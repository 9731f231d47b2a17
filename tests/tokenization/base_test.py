"""Loading, and what both kinds of vocabulary have in common."""

import json

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.tokenization import base, hf, spm
from tests import bits
from tests.tokenization import tiny

WRITERS = {'spm': tiny.write_spm, 'hf': tiny.write_hf}


@pytest.fixture(params=sorted(WRITERS))
def directory(request, tmp_path):
  return WRITERS[request.param](tmp_path)


@pytest.mark.parametrize(
  'text',
  [
    '',
    'What is 1 + 2 ?',
    'two  spaces, and a\nnewline \n',
    '<|User|>What is 1<|Assistant|><think>\n wait</think>\nThe answer',
  ],
)
def test_round_trip(directory, text):
  tokenizer = base.load(directory)
  known = text.replace(',', '.')  # the tiny SentencePiece corpus has no comma
  assert tokenizer.decode(tokenizer.encode(known)) == known


def test_encode_adds_nothing_and_finds_symbols(directory):
  tokenizer = base.load(directory)
  (think,) = tokenizer.encode('<think>')
  (close,) = tokenizer.encode('</think>')
  assert think != close
  words = tokenizer.encode('wait')
  assert tokenizer.encode('<think>wait</think>') == [think, *words, close]
  hidden = {tokenizer.pad_id, *tokenizer.eos_ids}
  assert not hidden & set(words)


def test_decode_drops_ends_and_foreign_ids(directory):
  tokenizer = base.load(directory)
  words = tokenizer.encode('wait</think>')
  ids = [*words, tokenizer.eos_ids[0], tokenizer.pad_id, tokenizer.vocab_size]
  assert tokenizer.decode(ids) == 'wait</think>'
  assert tokenizer.decode(np.array(ids, np.int32)) == 'wait</think>'
  assert tokenizer.decode([10**9, -1]) == ''


def test_vocab_size_covers_every_id(directory):
  tokenizer = base.load(directory)
  ids = tokenizer.encode(' '.join([*tiny.CORPUS[:3], *tiny.SYMBOLS]))
  assert max(ids) < tokenizer.vocab_size
  assert 0 <= tokenizer.pad_id < tokenizer.vocab_size
  assert max(tokenizer.eos_ids) < tokenizer.vocab_size


@pytest.mark.parametrize(
  ('value', 'expected'), [(7, (7,)), ([7, 5, 7], (7, 5)), (None, ())]
)
def test_generation_config_adds_eos_ids(directory, value, expected):
  own = base.load(directory).eos_ids
  tiny.write_json(directory, 'config.json', {'eos_token_id': 9})
  assert base.load(directory).eos_ids == (*own, 9)
  tiny.write_json(directory, 'generation_config.json', {'eos_token_id': value})
  assert base.load(directory).eos_ids == (*own, *expected)


def test_save_copies_the_files(directory, tmp_path):
  tiny.write_json(directory, 'generation_config.json', {'eos_token_id': [7]})
  (directory / 'chat_template.jinja').write_text('{{ bos_token }}')
  (directory / 'model.safetensors').write_bytes(b'not ours')
  tokenizer = base.load(directory)
  copy = tmp_path / 'deep' / 'copy'
  tokenizer.save(copy)
  assert bits.digests(copy).items() <= bits.digests(directory).items()
  assert not (copy / 'model.safetensors').exists()
  again = base.load(copy)
  assert type(again) is type(tokenizer)
  assert again.eos_ids == tokenizer.eos_ids
  assert again.chat_template == '{{ bos_token }}'
  tokenizer.save(directory)  # onto its own source
  assert base.load(directory).encode('wait') == tokenizer.encode('wait')


def test_load_prefers_tokenizer_json(tmp_path):
  tiny.write_spm(tmp_path)
  assert isinstance(base.load(tmp_path), spm.SentencePieceTokenizer)
  tiny.write_hf(tmp_path)
  assert isinstance(base.load(tmp_path), hf.HFTokenizer)


def test_load_names_what_is_missing(tmp_path):
  with pytest.raises(UserError, match='neither tokenizer.json nor tokenizer.m'):
    base.load(tmp_path)
  with pytest.raises(UserError, match='nowhere: not a directory'):
    base.load(tmp_path / 'nowhere')


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.model'])
@pytest.mark.parametrize('content', [b'', b'garbage', b'{}'])
def test_corrupt_vocabulary_is_named(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=name) as error:
    base.load(tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('tokenizer_config.json', '{', 'not JSON'),
    ('tokenizer_config.json', '[]', 'expected an object'),
    ('tokenizer_config.json', '{"eos_token": 3}', 'eos_token is 3'),
    ('tokenizer_config.json', '{"eos_token": "<no>"}', "'<no>' is not in"),
    ('tokenizer_config.json', '{"chat_template": [3]}', '"name" and'),
    ('tokenizer_config.json', '{"added_tokens_decoder": {"a": "b"}}', 'keyed'),
    ('generation_config.json', '{"eos_token_id": "2"}', "is '2'"),
    ('generation_config.json', '{"eos_token_id": [true]}', 'True'),
  ],
)
def test_bad_settings_are_named(directory, name, content, message):
  (directory / name).write_text(content)
  with pytest.raises(UserError, match=message) as error:
    base.load(directory)
  assert name in str(error.value)
  assert '\n' not in str(error.value)


def test_chat_template_sources(directory):
  path = directory / 'tokenizer_config.json'
  config = json.loads(path.read_text()) if path.exists() else {}

  def template_of(value):
    tiny.write_json(directory, path.name, config | {'chat_template': value})
    return base.load(directory).chat_template

  assert template_of(None) is None
  assert template_of('A') == 'A'
  named = [
    {'name': 'tool_use', 'template': 'T'},
    {'name': 'default', 'template': 'D'},
  ]
  assert template_of(named) == 'D'
  with pytest.raises(UserError, match=r"\['tool_use'\] but no \"default\""):
    template_of(named[:1])
  (directory / 'chat_template.jinja').write_text('file')
  assert template_of('A') == 'file'


def test_think_close_ids(directory):
  tokenizer = base.load(directory)
  assert base.think_close_ids(tokenizer) == tuple(tokenizer.encode('</think>'))
  assert base.is_symbol(tokenizer, '</think>')
  assert not base.is_symbol(tokenizer, 'think again')


def test_think_close_ids_without_the_symbol(tmp_path):
  tokenizer = base.load(tiny.write_hf(tmp_path, plain=()))
  ids = base.think_close_ids(tokenizer)
  assert len(ids) > 1
  assert tokenizer.decode(ids) == '</think>'
