"""A tiny random model of the Qwen2 kind, made once per test process.

Every parameter is random, norms and biases too, and large enough that no term
of the architecture is invisible in a log-probability.
"""

import atexit
import functools
import pathlib
import random
import shutil
import tempfile

import jax
import numpy as np

from lrm_jax.checkpoints import huggingface
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.models import transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.rope import Rope
from lrm_jax.tokenization import base, training


def config(**changes) -> ModelConfig:
  """The architecture; `changes` replace its fields."""
  fields = {
    'vocab_size': tokenizer().vocab_size + 2,  # Two rows of padding.
    'family': 'qwen2',
    'd_model': 32,
    'n_layers': 2,
    'n_heads': 4,
    'n_kv_heads': 2,
    'head_dim': 8,
    'd_ff': 48,
    'max_positions': 128,
    'rope': Rope(theta=1e4),
    'tie_embeddings': False,
  }
  return ModelConfig(**fields | changes)


def params(architecture: ModelConfig, seed: int = 0):
  """NumPy parameters that give logits of standard deviation 2."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, architecture), jax.random.key(0)
  )

  def fill(path, leaf):
    noise = rng.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if name == 'scale':
      return 1 + 0.2 * noise
    if name == 'bias':
      return 0.2 * noise
    if name == 'head':
      return 2 * architecture.d_model**-0.5 * noise
    return noise if name == 'embedding' else leaf.shape[-2] ** -0.5 * noise

  return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def tokenizer_directory() -> pathlib.Path:
  """A SentencePiece vocabulary for chain arithmetic."""
  style = chain_arithmetic.Style(recheck=0.3, again=0.3)
  rng = random.Random(0)
  texts = []
  for index in range(40):
    problem = chain_arithmetic.make_problem(index)
    trace = chain_arithmetic.trace(problem, style, rng)
    texts += [problem.question, trace]
  directory = _session_directory() / 'tokenizer'
  symbols = chain_arithmetic.SYMBOLS
  training.train(texts, directory, vocab_size=200, symbols=symbols)
  return directory


@functools.cache
def tokenizer() -> base.Tokenizer:
  """The tokenizer of `tokenizer_directory`."""
  return base.load(tokenizer_directory())


@functools.cache
def model_directory() -> pathlib.Path:
  """A whole model in the Hugging Face layout; read it, do not write it."""
  directory = _session_directory() / 'model'
  huggingface.save(directory, config(), params(config()), tokenizer())
  return directory


@functools.cache
def _session_directory() -> pathlib.Path:
  directory = tempfile.mkdtemp(prefix='lrm_jax_tests_')
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  return pathlib.Path(directory)
