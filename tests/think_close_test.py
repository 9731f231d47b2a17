"""Where `</think>` is several tokens, thinking is measured in the text."""

import numpy as np
import tokenizers

from lrm_jax import rollout
from lrm_jax.sampler.samples import untruncated
from lrm_jax.tokenization import base


def make_tokenizer(directory):
  """Byte-level BPE that merges `>` with a following newline."""
  bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
  bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  bpe.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=262,
    special_tokens=['<eos>'],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
  )
  bpe.train_from_iterator(['>\n\n'] * 50, trainer)
  directory.mkdir()
  bpe.save(str(directory / 'tokenizer.json'))
  (directory / 'tokenizer_config.json').write_text('{"eos_token": "<eos>"}')
  return base.load(directory)


def test_close_is_found_although_its_last_character_is_merged(tmp_path):
  tokenizer = make_tokenizer(tmp_path / 'model')
  texts = ['a b c</think>\n\n5', 'no end of thinking', '</think>7']
  ids = [tokenizer.encode(text) for text in texts]
  pattern = list(base.think_close_ids(tokenizer))
  assert not any(
    ids[0][i : i + len(pattern)] == pattern for i in range(len(ids[0]))
  ), 'the case to be tested does not occur'
  length = np.array([[len(i) for i in ids]], np.int32)
  padded = np.zeros((1, 3, length.max()), np.int32)
  for g, row in enumerate(ids):
    padded[0, g, : len(row)] = row
  samples = untruncated(
    response_ids=padded,
    logp=np.zeros(padded.shape, np.float32),
    length=length,
    truncated=np.zeros((1, 3), bool),
    think_closed=np.zeros((1, 3), bool),
    thinking_length=length.copy(),
  )
  collector = rollout.Collector(tokenizer, None, None, 8)
  found = collector._find_close(samples, [texts])
  assert found.think_closed.tolist() == [[True, False, True]]
  assert found.thinking_length.tolist() == [
    [len(tokenizer.encode('a b c')), length[0, 1], 0]
  ]
