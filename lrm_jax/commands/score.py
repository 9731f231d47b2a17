"""`lrm score`: the log-probability of every token of a JSON Lines file.

  {"ids": [...], ...}                   -> the same row and {"logp": [...]}
  {"prompt": ..., "response": ..., ...} -> likewise

`logp` is the natural logarithm, float32, one number per token after the
first. `prompt` and `response` are raw text (no chat template), encoded
separately and joined. Where a row has `ids`, they alone count. The softmax is
over all rows of the embedding, as in `transformers`; sampling and training
leave out those that no id of the tokenizer has.
"""

import functools
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from lrm_jax import assets, jsonl, metrics, storage, workdir
from lrm_jax.checkpoints import huggingface
from lrm_jax.commands import output
from lrm_jax.errors import UserError
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.structs import Array
from lrm_jax.tokenization import base

# The shortest padded length; below it, another program would not pay.
_SHORTEST = 32


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  flags.DEFINE_string(
    'model',
    'tiny_lrm',
    'Model directory in the Hugging Face layout, or the name of an embedded '
    'model.',
    flag_values,
  )
  flags.DEFINE_string(
    'input',
    None,
    'JSON Lines file (.gz too); each row has ids, or prompt and response.',
    flag_values,
  )
  flags.DEFINE_string(
    'output',
    None,
    'JSON Lines file to write: the rows with logp. summary.json goes beside '
    'it.',
    flag_values,
  )
  flags.DEFINE_integer(
    'batch',
    8,
    'Rows scored at once; fewer need less memory.',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'dtype',
    'float32',
    ['float32', 'bfloat16'],
    'Of parameters and activations; log-probabilities stay float32.',
    flag_values,
  )
  flags.mark_flags_as_required(['input', 'output'], flag_values)


def run(flag_values: flags.FlagValues) -> None:
  """Scores --input into --output and summary.json.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: a model or file that cannot be read or written, or a row that
      has no tokens, too many, or unknown ones. Nothing is written then.
  """
  begin = time.monotonic()
  target = output.output_file(flag_values.output)
  rows = jsonl.read_rows(flag_values.input)
  directory = assets.resolve(flag_values.model)
  # The rows are checked before the weights are read.
  sequences = _sequences(flag_values.input, directory, rows)
  dtype = flag_values.dtype
  config, params = huggingface.load(
    directory, param_dtype=dtype, compute_dtype=dtype
  )
  scorer = _Scorer(config, params, flag_values.batch)
  logp = scorer.score(sequences)
  storage.make_folder(target.parent)
  jsonl.write_rows(
    target,
    (
      row | {'logp': values.tolist()}
      for row, values in zip(rows, logp, strict=True)
    ),
  )
  tokens = sum(map(len, sequences))
  summary = {
    'verb': 'score',
    'rows': len(rows),
    'tokens': tokens,
    'seconds': time.monotonic() - begin,
    # Without reading, writing and compiling.
    'tokens_per_second': tokens / scorer.run_seconds if rows else None,
    'compile_seconds': scorer.compile_seconds,
    'device': jax.devices()[0].device_kind,
  }
  path = workdir.write_summary(target.with_name('summary.json'), summary)
  print(_describe(summary, logp))
  print(f'wrote {target} and {path}')


class _Scorer:
  """Scores sequences in batches of few shapes, each compiled once.

  Attributes:
    compile_seconds: spent on compilation so far.
    run_seconds: spent on scoring so far, compilation left out.
  """

  def __init__(self, config: ModelConfig, params: Any, batch: int):
    self.compile_seconds = 0.0
    self.run_seconds = 0.0
    self._config = config
    self._params = params
    self._batch = batch
    self._programs = {}

  def score(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """`[len - 1]` float32 log-probabilities for each sequence."""
    results = [None] * len(sequences)
    done = 0
    with metrics.Progress(len(sequences), 'score') as progress:
      for indices, width in self._batches(sequences):
        ids = np.zeros((self._batch, width), np.int32)
        length = np.zeros(self._batch, np.int32)
        for row, index in enumerate(indices):
          length[row] = len(sequences[index])
          ids[row, : length[row]] = sequences[index]
        logp = self._run(ids, length)
        for row, index in enumerate(indices):
          results[index] = logp[row, : length[row] - 1]
        done += len(indices)
        progress.update(done, {'longest': int(length.max())})
    return results

  def _batches(
    self, sequences: Sequence[Sequence[int]]
  ) -> Iterator[tuple[list[int], int]]:
    """(indices, padded length): rows of like length, a power of two."""
    buckets = {}
    for index, sequence in enumerate(sequences):
      power = 1 << (len(sequence) - 1).bit_length()
      width = min(max(power, _SHORTEST), self._config.max_positions)
      buckets.setdefault(width, []).append(index)
    for width, indices in sorted(buckets.items()):
      for start in range(0, len(indices), self._batch):
        yield indices[start : start + self._batch], width

  def _run(self, ids: np.ndarray, length: np.ndarray) -> np.ndarray:
    begin = time.monotonic()
    if ids.shape not in self._programs:
      config = self._config.for_length(ids.shape[1])
      lowered = _logp.lower(config, self._params, ids, length)
      self._programs[ids.shape] = lowered.compile()
      self.compile_seconds += time.monotonic() - begin
      begin = time.monotonic()
    logp = np.asarray(self._programs[ids.shape](self._params, ids, length))
    self.run_seconds += time.monotonic() - begin
    return logp


@functools.partial(jax.jit, static_argnames='config')
def _logp(config: ModelConfig, params: Any, ids: Array, length: Array) -> Array:
  """`[N, S - 1]` log-probabilities of ids `[N, S]`; undefined on padding."""
  columns = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
  is_token = (columns < length[:, None]).astype(jnp.int32)
  hidden, _ = transformer.apply(config, params, ids, columns, is_token)
  logp, _ = output_head.token_logp(config, params, hidden[:, :-1], ids[:, 1:])
  return logp


def _sequences(
  source: str, directory: pathlib.Path, rows: Sequence[dict[str, Any]]
) -> list[list[int]]:
  """The ids of every row, checked against the model."""
  config = huggingface.read_config(directory)
  tokenizer = None
  if any('ids' not in row for row in rows):
    tokenizer = base.load(directory)
    huggingface.fit_vocabulary(config, tokenizer)
  sequences = []
  for number, row in enumerate(rows, start=1):
    where = f'{source}: row {number}'
    ids = row['ids'] if 'ids' in row else _encode(where, row, tokenizer)
    _check_ids(where, ids, config)
    sequences.append(ids)
  return sequences


def _encode(
  where: str, row: dict[str, Any], tokenizer: base.Tokenizer
) -> list[int]:
  for name in ('prompt', 'response'):
    if name not in row or not isinstance(row[name], str):
      raise UserError(
        f'{where} has no ids and no text {name}; a row needs ids, or prompt '
        'and response'
      )
  return tokenizer.encode(row['prompt']) + tokenizer.encode(row['response'])


def _check_ids(where: str, ids: Any, config: ModelConfig) -> None:
  if not isinstance(ids, list) or not ids:
    raise UserError(f'{where}: no tokens; ids must be an array of at least one')
  if len(ids) > config.max_positions:
    raise UserError(
      f'{where}: {len(ids)} tokens, but the model has '
      f'max_position_embeddings={config.max_positions}; shorten the row'
    )
  for token in ids:
    if type(token) is not int or not 0 <= token < config.vocab_size:
      raise UserError(
        f'{where}: {token!r} is no token id; ids are integers in '
        f'[0, {config.vocab_size})'
      )


def _describe(summary: dict[str, Any], logp: Sequence[np.ndarray]) -> str:
  scored = sum(map(len, logp))
  mean = math.fsum(float(row.sum()) for row in logp) / scored if scored else 0.0
  average = f', mean logp {mean:.4f} nats a token' if scored else ''
  return (
    f'{summary["rows"]} rows, {summary["tokens"]} tokens{average}, '
    f'in {summary["seconds"]:.1f} s'
  )
