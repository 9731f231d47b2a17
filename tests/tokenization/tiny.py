"""Tiny vocabularies, trained on the spot into a directory."""

import io
import json

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lrm_jax.tokenization import base

CORPUS = [
  'What is 1 + 2 ? Let me check that again . wait',
  'Natalia sold 48 / 2 = 24 clips in May . The answer is 72 .',
  'So 4 times 5 is 20 and 20 minus 7 is 13 .',
] * 20
SYMBOLS = ['<think>', '</think>', '<|User|>', '<|Assistant|>']

# Templates written for these tests; they end as those of the models do.
R1_TEMPLATE = (
  '{{ bos_token }}{% for message in messages %}'
  "{% if message['role'] == 'user' %}<|User|>{{ message['content'] }}"
  '{% endif %}{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
QWEN_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if tools %}{% continue %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content }}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def write_json(directory, name, content):
  (directory / name).write_text(json.dumps(content), encoding='utf-8')


def write_spm(directory, symbols=(*SYMBOLS, '\n'), **options):
  """A BPE `tokenizer.model` that keeps every space and newline."""
  model = io.BytesIO()
  settings = {
    'model_type': 'bpe',
    'vocab_size': 90,
    'hard_vocab_limit': False,
    'normalization_rule_name': 'identity',
    'add_dummy_prefix': False,
    'remove_extra_whitespaces': False,
    'user_defined_symbols': list(symbols),
    'minloglevel': 2,
  }
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS), model_writer=model, **settings | options
  )
  (directory / 'tokenizer.model').write_bytes(model.getvalue())
  return directory


def write_hf(directory, plain=SYMBOLS, special=('<bos>', '<eos>', '<pad>')):
  """A byte-level BPE `tokenizer.json` with a config that names its tokens.

  The file also asks for truncation, padding and a bos: all three must have
  no effect.
  """
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(CORPUS, trainer)
  tokenizer.add_tokens([tokenizers.AddedToken(t) for t in plain])
  tokenizer.add_special_tokens(
    [tokenizers.AddedToken(t, special=True) for t in special]
  )
  bos = ('<bos>', tokenizer.token_to_id('<bos>'))
  if bos[1] is not None:
    tokenizer.post_processor = processors.TemplateProcessing(
      single='<bos> $A', special_tokens=[bos]
    )
  tokenizer.enable_truncation(4)
  tokenizer.enable_padding(length=64)
  tokenizer.save(str(directory / 'tokenizer.json'))
  write_json(
    directory,
    'tokenizer_config.json',
    {'bos_token': '<bos>', 'eos_token': '<eos>', 'pad_token': '<pad>'},
  )
  return directory


def base_of(directory, **options):
  """The tokenizer of `write_hf`."""
  return base.load(write_hf(directory, **options))
