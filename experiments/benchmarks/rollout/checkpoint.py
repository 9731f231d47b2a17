"""Random Qwen2 checkpoints that end their responses at a chosen rate.

  python experiments/benchmarks/rollout/checkpoint.py DIRECTORY

Writes DIRECTORY/ragged, whose responses end with probability 1/80 at every
token, and DIRECTORY/uniform, the same model whose responses never end.

One residual channel carries the rate. Every embedding has the same value
there, no layer writes to it, and of the head's rows only those of special
tokens read it. So the logit of the end is nearly the same everywhere, lengths
are nearly geometric, and one number, found by bisection, sets their mean. The
padding row gets a logit that is never sampled: some samplers take a padding
token inside a response for no token at all.
"""

import dataclasses
import functools
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from lrm_jax import assets, jsonl, rng
from lrm_jax.checkpoints import huggingface
from lrm_jax.data import prompts, sources
from lrm_jax.models import output_head, presets, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.sampler.engine import Sampler
from lrm_jax.tokenization import base

VOCABULARY = 600
SPECIAL = ('<pad>', '<eos>', '<unk>', '<think>', '</think>')
TINY = 'tiny_lrm'  # the embedded model
PAD, EOS, UNK, THINK, THINK_CLOSE = range(5)
FIRST_WORD = len(SPECIAL)  # prompts have this id and those above
CHANNEL = 0  # of the residual stream: the constant one
LEVEL = 4.0  # its value in every embedding, whose other values are about 1
NEVER = -60.0  # a logit; its probability is no float32 above zero
TEMPLATE = '{{ messages[0].content }} <think>'


@dataclasses.dataclass(frozen=True)
class Calibration:
  """What was found for a checkpoint.

  Attributes:
    rate: probability that a token ends its response, mean over positions.
    spread: standard deviation of that probability over positions.
    weight: of the end's row on the constant channel.
  """

  rate: float
  spread: float
  weight: float


def architecture(**changes) -> ModelConfig:
  """4.2 M parameters, 4.1 M of them in matrix products; 8.2 MFLOP a token."""
  fields = {
    'vocab_size': VOCABULARY,
    'd_model': 256,
    'n_layers': 4,
    'n_heads': 4,
    'n_kv_heads': 2,
    'head_dim': 64,
    'd_ff': 1024,
    'max_positions': 16384,
    'rope': {'theta': 1e4},
    'tie_embeddings': False,
  }
  return presets.build('qwen2', **fields | changes)


def make_params(config: ModelConfig, seed: int):
  """NumPy parameters; logits of words have a standard deviation of about 1."""
  random = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, config), jax.random.key(0)
  )

  def fill(path, leaf):
    noise = random.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if name == 'scale':
      return np.ones_like(noise)
    if name == 'bias':
      return np.float32(0.1) * noise
    if name == 'embedding':
      noise[:, CHANNEL] = LEVEL
      return noise
    if name == 'head':
      noise = noise * np.float32(config.d_model**-0.5)
      noise[CHANNEL] = 0
      noise[:, [PAD, EOS]] = 0
      return noise
    noise = noise * np.float32(leaf.shape[-2] ** -0.5)
    if any(key.key in ('o', 'down') for key in path):
      noise[..., CHANNEL] = 0
    return noise

  return jax.tree_util.tree_map_with_path(fill, shapes)


def with_end(params, weight: float):
  """The parameters with this weight of the end on the constant channel."""
  head = params['head'].copy()
  head[CHANNEL, EOS] = weight
  head[CHANNEL, PAD] = NEVER
  return params | {'head': head}


def calibrate(
  config: ModelConfig, params, rate: float, *, rows: int = 16, length=128
) -> Calibration:
  """Bisects for the weight at which `rate` of all tokens are the last.

  Over positions of responses that the model itself wrote, with no end.
  """
  words = sample_words(rows, (24, 40), seed=1)
  width = max(map(len, words))
  ids = np.array([row + [PAD] * (width - len(row)) for row in words], np.int32)
  lengths = np.array([len(row) for row in words], np.int32)
  endless = with_end(params, NEVER)
  samples = Sampler(
    config,
    samples=1,
    slots=rows,
    max_prompt_tokens=width,
    max_tokens=length,
    eos_ids=(EOS,),
    pad_id=PAD,
    think_close_ids=(THINK_CLOSE,),
  ).generate(
    jax.tree.map(jnp.asarray, endless),
    ids,
    lengths,
    problem_ids=[str(i) for i in range(rows)],
    caps=length,
    key=rng.stream(0, 'calibration'),
  )
  whole = np.zeros((rows, width + length), np.int32)
  for row, (prompt, response) in enumerate(
    zip(words, samples.response_ids[:, 0], strict=True)
  ):
    whole[row, : len(prompt) + length] = [*prompt, *response]
  logits = teacher_forced(config, endless, whole)
  hidden, others = logits[..., EOS] / NEVER, logits.copy()
  others[..., EOS] = -np.inf
  rest = np.logaddexp.reduce(others, axis=-1)
  at = np.arange(whole.shape[1])
  # The position before a token decides about it.
  is_response = (at >= lengths[:, None] - 1) & (
    at < lengths[:, None] + length - 1
  )

  def chances(weight):
    end = weight * hidden
    return np.exp(end - np.logaddexp(end, rest))[is_response]

  low, high = NEVER, -NEVER
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (
      (middle, high) if chances(middle).mean() < rate else (low, middle)
    )
  found = chances(low)
  return Calibration(float(found.mean()), float(found.std()), low)


def teacher_forced(config: ModelConfig, params, rows: np.ndarray) -> np.ndarray:
  """`[N, S, V]` float64, teacher-forced over whole rows."""

  @jax.jit
  def forward(params):
    at = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    hidden, _ = transformer.apply(config, params, rows, at, jnp.ones_like(at))
    return output_head.logits(config, params, hidden)

  return np.asarray(forward(params), np.float64)


def sample_words(
  count: int, lengths: tuple[int, int], seed: int
) -> list[list[int]]:
  """Random prompts, both lengths included; the last token opens thinking."""
  random = np.random.default_rng(seed)
  return [
    [*random.integers(FIRST_WORD, VOCABULARY, n - 1).tolist(), THINK]
    for n in random.integers(lengths[0], lengths[1] + 1, count)
  ]


def tiny_lrm(count: int) -> dict[str, Any]:
  """The embedded model and prompts of its held-out problems.

  Returns:
    Fields of `workload.Workload`. The padding is a token that it never writes:
    its own is the end, which some samplers then take for padding.
  """
  directory = assets.resolve(TINY)
  tokenizer = base.load(directory)
  problems = sources.load_problems(
    'chain_arithmetic', split='heldout', limit=count
  )
  return {
    'model': str(directory),
    'prompts': [
      prompts.encode_prompt(tokenizer, problems[i].question)
      for i in range(count)
    ],
    'eos_id': tokenizer.eos_ids[0],
    'pad_id': 0,
  }


def write_tokenizer(directory: pathlib.Path) -> base.Tokenizer:
  """A vocabulary of made-up words, one id each, parted by blanks."""
  words = [f'w{i}' for i in range(FIRST_WORD, VOCABULARY)]
  ids = {word: i for i, word in enumerate([*SPECIAL, *words])}
  model = tokenizers.models.WordLevel(ids, unk_token=SPECIAL[UNK])
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  tokenizer.add_special_tokens(list(SPECIAL))
  tokenizer.save(str(directory / 'tokenizer.json'))
  settings = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'pad_token': SPECIAL[PAD],
    'eos_token': SPECIAL[EOS],
    'unk_token': SPECIAL[UNK],
    'chat_template': TEMPLATE,
    'clean_up_tokenization_spaces': False,
  }
  (directory / 'tokenizer_config.json').write_text(json.dumps(settings))
  return base.load(directory)


def write(
  directory: pathlib.Path,
  *,
  seed: int = 0,
  rate: float = 1 / 80,
  config: ModelConfig | None = None,
) -> Calibration:
  """Writes DIRECTORY/ragged and DIRECTORY/uniform.

  Args:
    directory: made, if it is missing.
    seed: of the weights.
    rate: at which responses of the ragged model end, per token.
    config: None for `architecture()`.
  """
  config = architecture() if config is None else config
  params = make_params(config, seed)
  found = calibrate(config, params, rate)
  files = directory / 'tokenizer'
  files.mkdir(parents=True, exist_ok=True)
  tokenizer = write_tokenizer(files)
  for name, weight in (('ragged', found.weight), ('uniform', NEVER)):
    huggingface.save(
      directory / name, config, with_end(params, weight), tokenizer
    )
  jsonl.write_json(directory / 'calibration.json', dataclasses.asdict(found))
  return found


if __name__ == '__main__':
  print(write(pathlib.Path(sys.argv[1])))
