"""Trains a SentencePiece vocabulary and writes it in the Hugging Face layout.

The vocabulary is BPE with byte fallback off, identity normalization and the
symbols of the R1 prompt as pieces of their own.
"""

import io
import pathlib
from collections.abc import Iterable, Sequence

import sentencepiece

from lrm_jax import errors, jsonl

PROMPT_SYMBOLS = ('<think>', '</think>', '<|User|>', '<|Assistant|>')
EOS = '</s>'
# No newline after <think>: every token of a tiny vocabulary counts.
CHAT_TEMPLATE = (
  '{% for message in messages %}'
  "{% if message['role'] == 'user' %}"
  "{{ '<|User|>' + message['content'] }}"
  '{% else %}'
  "{{ raise_exception('only user messages are supported') }}"
  '{% endif %}{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|Assistant|><think>' }}{% endif %}"
)


def train(
  texts: Iterable[str],
  directory: str | pathlib.Path,
  *,
  vocab_size: int,
  symbols: Sequence[str] = (),
) -> None:
  """Writes `tokenizer.model` and `tokenizer_config.json` into `directory`.

  Args:
    texts: the corpus, one line each.
    directory: created if needed.
    vocab_size: pieces at most, symbols and `<unk>`, `<s>`, `</s>` included;
      fewer if the corpus has no more to merge.
    symbols: user-defined pieces beside those of the prompt, such as numbers.

  Raises:
    UserError: `vocab_size` is too small for the symbols and the characters.
  """
  directory = pathlib.Path(directory)
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts),
      model_writer=model,
      model_type='bpe',
      vocab_size=vocab_size,
      hard_vocab_limit=False,
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      split_by_unicode_script=False,
      character_coverage=1.0,
      user_defined_symbols=[*PROMPT_SYMBOLS, *symbols],
      pad_id=-1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise errors.UserError(
      f'tokenizer: vocab_size={vocab_size} does not hold '
      f'{len(symbols) + len(PROMPT_SYMBOLS)} symbols and every character of '
      'the corpus; raise it'
    ) from error
  directory.mkdir(parents=True, exist_ok=True)
  (directory / 'tokenizer.model').write_bytes(model.getvalue())
  jsonl.write_json(
    directory / 'tokenizer_config.json',
    {
      'tokenizer_class': 'LlamaTokenizer',
      'eos_token': EOS,
      'pad_token': EOS,
      'unk_token': '<unk>',
      'chat_template': CHAT_TEMPLATE,
    },
  )
