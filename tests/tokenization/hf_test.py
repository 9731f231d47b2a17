"""What only `tokenizer.json` vocabularies do."""

import json

import pytest
import tokenizers

from lrm_jax.errors import UserError
from lrm_jax.tokenization import base, settings
from tests.tokenization import tiny


def config_of(directory):
  return json.loads((directory / 'tokenizer_config.json').read_text())


def test_special_ids_come_from_the_config(tmp_path):
  tiny.write_hf(tmp_path)
  inner = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  tokenizer = base.load(tmp_path)
  assert tokenizer.eos_ids == (inner.token_to_id('<eos>'),)
  assert tokenizer.pad_id == inner.token_to_id('<pad>')
  assert tokenizer.vocab_size == inner.get_vocab_size(with_added_tokens=True)
  assert tokenizer.encode('<bos>a') == [
    inner.token_to_id('<bos>'),
    *tokenizer.encode('a'),
  ]


def test_pad_defaults_to_eos(tmp_path):
  tiny.write_hf(tmp_path)
  config = config_of(tmp_path) | {
    'pad_token': None,
    'eos_token': {'content': '<eos>', 'special': True},
  }
  tiny.write_json(tmp_path, 'tokenizer_config.json', config)
  tokenizer = base.load(tmp_path)
  assert tokenizer.pad_id == tokenizer.eos_ids[0]
  assert tokenizer.decode(tokenizer.encode('a<eos>')) == 'a'


def test_no_eos_is_refused(tmp_path):
  tiny.write_hf(tmp_path)
  (tmp_path / 'tokenizer_config.json').unlink()
  with pytest.raises(UserError, match='no end-of-sequence token'):
    base.load(tmp_path)


@pytest.mark.parametrize('kind', ['plain', 'special'])
def test_thinking_tags_of_either_kind_stay_visible(tmp_path, kind):
  ends = ('<bos>', '<eos>', '<pad>')
  if kind == 'plain':
    tiny.write_hf(tmp_path)
  else:
    tiny.write_hf(tmp_path, plain=(), special=(*ends, *tiny.SYMBOLS))
  tokenizer = base.load(tmp_path)
  ids = tokenizer.encode('<bos><think>\nwait</think>\n1<eos><pad>')
  assert tokenizer.decode(ids) == '<think>\nwait</think>\n1'


def test_tokens_listed_only_in_the_config_are_added(tmp_path):
  tiny.write_hf(tmp_path)
  size = base.load(tmp_path).vocab_size
  config = config_of(tmp_path)
  config['added_tokens_decoder'] = {
    str(size + 1): {'content': '<b>'},
    str(size): {'content': '<a>'},
  }
  tiny.write_json(tmp_path, 'tokenizer_config.json', config)
  tokenizer = base.load(tmp_path)
  assert tokenizer.encode('<a><b>') == [size, size + 1]
  assert tokenizer.vocab_size == size + 2
  config['added_tokens_decoder'] = {'3': {'content': '<think>'}}
  tiny.write_json(tmp_path, 'tokenizer_config.json', config)
  with pytest.raises(UserError, match="'<think>' has id .* but 3 in"):
    base.load(tmp_path)


def test_text_is_neither_cut_nor_padded(tmp_path):
  tokenizer = base.load(tiny.write_hf(tmp_path))
  text = 'What is 1 + 2 ? ' * 20
  assert tokenizer.decode(tokenizer.encode(text)) == text
  assert tokenizer.encode('') == []


def test_every_byte_round_trips(tmp_path):
  tokenizer = base.load(tiny.write_hf(tmp_path))
  text = 'Käse – 日本 🧀 \\frac{1}{2}\t\u2028'
  assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize('token', settings.END_OF_TURN)
def test_what_ends_a_turn_ends_a_response(tmp_path, token):
  """The files name the end of a text only, as those of base models do."""
  tiny.write_hf(tmp_path, plain=[*tiny.SYMBOLS, token])
  alone = base.load(tmp_path)
  assert len(alone.eos_ids) == 1
  template = tiny.QWEN_TEMPLATE.replace('<|im_end|>', token)
  (tmp_path / 'chat_template.jinja').write_text(template)
  tokenizer = base.load(tmp_path)
  assert tokenizer.eos_ids == (*alone.eos_ids, *tokenizer.encode(token))


def test_a_turn_that_the_vocabulary_cannot_end(tmp_path):
  tiny.write_hf(tmp_path)
  (tmp_path / 'chat_template.jinja').write_text(tiny.QWEN_TEMPLATE)
  assert len(base.load(tmp_path).eos_ids) == 1


def test_a_vocabulary_as_of_gemma(tmp_path):
  """Spaces as a symbol of their own, unknown characters as bytes."""
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(byte_fallback=True, fuse_unk=True, unk_token='<unk>')
  )
  tokenizer.normalizer = tokenizers.normalizers.Replace(' ', '▁')
  tokenizer.decoder = tokenizers.decoders.Sequence(
    [
      tokenizers.decoders.Replace('▁', ' '),
      tokenizers.decoders.ByteFallback(),
      tokenizers.decoders.Fuse(),
    ]
  )
  ends = [
    '<pad>',
    '<eos>',
    '<bos>',
    '<unk>',
    '<start_of_turn>',
    '<end_of_turn>',
  ]
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=[*ends, *(f'<0x{byte:02X}>' for byte in range(256))],
    show_progress=False,
  )
  tokenizer.train_from_iterator(tiny.CORPUS, trainer)
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  fields = {f'{name}_token': f'<{name}>' for name in ('pad', 'eos', 'bos')}
  tiny.write_json(tmp_path, 'tokenizer_config.json', fields)
  tiny.write_json(tmp_path, 'generation_config.json', {'eos_token_id': [1, 5]})
  loaded = base.load(tmp_path)
  assert (loaded.pad_id, loaded.eos_ids) == (0, (1, 5))
  text = 'What is 1 + 2 ?  é\n'
  ids = loaded.encode(text)
  assert loaded.decode(ids) == text
  assert loaded.decode([*ids, 5]) == text
