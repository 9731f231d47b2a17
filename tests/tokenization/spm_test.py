"""What only SentencePiece does."""

import pytest

from lrm_jax.errors import UserError
from lrm_jax.tokenization import base
from tests.tokenization import tiny


def test_special_ids_of_the_model_file(tmp_path):
  tokenizer = base.load(tiny.write_spm(tmp_path))
  assert tokenizer.eos_ids == (2,)
  assert tokenizer.pad_id == 2  # no padding piece: the first eos pads
  assert tokenizer.special_tokens == {'bos_token': '<s>', 'eos_token': '</s>'}


def test_padding_piece_of_the_model_file(tmp_path):
  assert base.load(tiny.write_spm(tmp_path, pad_id=3)).pad_id == 3


def test_config_outranks_the_model_file(tmp_path):
  tiny.write_spm(tmp_path, pad_id=3)
  tiny.write_json(
    tmp_path,
    'tokenizer_config.json',
    {'eos_token': {'content': '<|User|>'}, 'pad_token': '<unk>'},
  )
  tokenizer = base.load(tmp_path)
  (user,) = tokenizer.encode('<|User|>')
  assert tokenizer.eos_ids == (user, 2)
  assert tokenizer.pad_id == 0
  assert tokenizer.special_tokens['eos_token'] == '<|User|>'
  assert tokenizer.decode(tokenizer.encode('wait<|User|>')) == 'wait'


def test_control_symbols_spelled_in_text(tmp_path):
  tokenizer = base.load(tiny.write_spm(tmp_path))
  words = tokenizer.encode('wait')
  assert tokenizer.encode('<s>wait</s></s>') == [1, *words, 2, 2]
  assert tokenizer.decode([1, *words, 2]) == 'wait'


def test_vocabulary_without_control_symbols(tmp_path):
  tiny.write_spm(tmp_path, bos_id=-1, eos_id=-1)
  with pytest.raises(UserError, match='no end-of-sequence token'):
    base.load(tmp_path)
  tiny.write_json(tmp_path, 'tokenizer_config.json', {'eos_token': '</think>'})
  tokenizer = base.load(tmp_path)
  assert tokenizer.encode('wait</think>')[-1:] == list(tokenizer.eos_ids)
  assert tokenizer.decode(tokenizer.encode('wait')) == 'wait'


def test_space_before_the_first_piece(tmp_path):
  """Llama-style vocabularies: the symbol is still one id."""
  tokenizer = base.load(tiny.write_spm(tmp_path, add_dummy_prefix=True))
  assert len(tokenizer.encode('</think>')) == 2
  assert len(base.think_close_ids(tokenizer)) == 1
  assert tokenizer.decode(base.think_close_ids(tokenizer)) == '</think>'


def test_tokens_added_outside_the_model_file_are_refused(tmp_path):
  tiny.write_spm(tmp_path)
  added = {'2': {'content': '</s>'}}
  tiny.write_json(
    tmp_path, 'tokenizer_config.json', {'added_tokens_decoder': added}
  )
  base.load(tmp_path)
  added['500'] = {'content': '<|new|>'}
  tiny.write_json(
    tmp_path, 'tokenizer_config.json', {'added_tokens_decoder': added}
  )
  with pytest.raises(UserError, match=r"'<\|new\|>' with id 500.*export"):
    base.load(tmp_path)
