"""`lrm convert`: models between the Hugging Face layout and orbax.

  lrm convert --from=runs/dler --to=runs/dler/hf       the newest checkpoint
  lrm convert --from=Qwen2.5-1.5B --to=qwen            orbax
  lrm convert --from=qwen --to=qwen_hf --dtype=bfloat16 --check

Runs on the processor, also where there is an accelerator. summary.json goes
into --to, where nothing else reads it.
"""

import functools
import pathlib
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from lrm_jax import storage, workdir
from lrm_jax.checkpoints import (
  huggingface,
  model_source,
  orbax_models,
  replacing,
)
from lrm_jax.checkpoints.model_source import Source
from lrm_jax.commands import output
from lrm_jax.errors import CheckFailed, UserError
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import DTYPES, ModelConfig
from lrm_jax.structs import Array

# Of --check: rows of random tokens, and what is still the same model, as a
# share of the standard deviation of all logits.
_ROWS, _TOKENS = 2, 64
_LIMIT = 1e-5


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  text = flags.DEFINE_string
  text(
    'from',
    None,
    'Model directory in the Hugging Face layout or of an earlier lrm convert, '
    'or the workdir of a run: its newest checkpoint.',
    flag_values,
  )
  text(
    'to',
    None,
    'Model directory to write; a model there is replaced.',
    flag_values,
  )
  flags.DEFINE_enum(
    'format',
    None,
    ['hf', 'orbax'],
    'Of --to (default: orbax where --from is in the Hugging Face layout, else '
    'hf).',
    flag_values,
  )
  flags.DEFINE_enum(
    'dtype',
    None,
    DTYPES,
    'Of the weights written (default: as stored).',
    flag_values,
  )
  flags.DEFINE_integer(
    'step',
    None,
    'Checkpoint of a run (default: the newest).',
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'check',
    False,
    'Read what was written and compare its logits with those of --from; exit '
    'with 1 where they differ.',
    flag_values,
  )
  flags.mark_flags_as_required(['from', 'to'], flag_values)


def run(flag_values: flags.FlagValues) -> None:
  """Converts --from into --to.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: a model that cannot be read, or a place that cannot be written.
      Nothing is written then.
    CheckFailed: --check found another model in --to, which is left there.
  """
  begin = time.monotonic()
  name = flag_values['from'].value
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    source = model_source.open_source(
      flag_values['from'].value, flag_values.step
    )
    target = _target(flag_values.to, source)
    dtype = flag_values.dtype if flag_values.dtype else source.dtype
    form = flag_values.format
    if form is None:
      form = 'orbax' if source.kind == 'hf' else 'hf'
    count = _convert(source, target, form, dtype)
    check = compare(source, target, dtype) if flag_values.check else None
  files = [path for path in target.rglob('*') if path.is_file()]
  summary = {
    'verb': 'convert',
    'from': name,
    'from_format': source.kind,
    'step': source.step,
    'to': str(target),
    'format': form,
    'family': source.config.family,
    'parameters': count,
    'from_dtype': source.dtype,
    'dtype': dtype,
    'bytes': sum(path.stat().st_size for path in files),
    'seconds': time.monotonic() - begin,
    'check': check,
  }
  workdir.write_summary(target, summary)
  print(_describe(summary))
  if check is not None and not check['is_same']:
    raise CheckFailed(
      f'{target} is not the model of --from: {check["reason"]}; do not use it, '
      'and report what was converted'
    )


def compare(source: Source, target: pathlib.Path, dtype: str) -> dict[str, Any]:
  """Whether a directory holds the model of `source`, rounded to `dtype`.

  Both are run in float32 on the same random tokens. One model is held at a
  time.

  Args:
    source: what was converted.
    target: what was written.
    dtype: of its weights.

  Returns:
    `is_same`; `reason` why not; `max_difference` of two logits, which may
    reach `limit`; `spread`, the standard deviation of the logits; and
    `max_rounding`, by how much the dtype moved them (0.0 where it is not
    lower than that of `source`).
  """
  written = model_source.open_source(target)
  found = {
    'is_same': False,
    'reason': None,
    'max_difference': None,
    'limit': None,
    'spread': None,
    'max_rounding': None,
  }
  if written.config != source.config:
    return found | {'reason': _first_difference(source.config, written.config)}
  exact = _logits(*source.read(source.dtype))
  is_lower = dtype not in (source.dtype, 'float32')
  expected = _logits(*source.read(dtype)) if is_lower else exact
  difference = np.abs(_logits(*written.read(dtype)) - expected).max()
  limit = _LIMIT * exact.std()
  found |= {
    # Also where a logit is no number.
    'is_same': bool(difference <= limit),
    'max_difference': float(difference),
    'limit': float(limit),
    'spread': float(exact.std()),
    'max_rounding': float(np.abs(expected - exact).max()),
  }
  if not found['is_same']:
    found['reason'] = f'logits differ by {difference:.1e}, beyond {limit:.1e}'
  return found


def _target(text: str, source: Source) -> pathlib.Path:
  """--to, before any time is spent.

  Raises:
    UserError: it cannot be written, holds something else than a model, or is
      what is read.
  """
  target = storage.as_path(text)
  if storage.is_remote(target):
    raise UserError(
      f"--to='{target}': is in a bucket, and convert looks again at what it "
      'wrote; give a folder, and copy it with gcloud storage cp --recursive'
    )
  output.check_writable(f"--to='{target}'", target.parent)
  replacing.check(target)
  place = target.resolve()
  for read in (directory.resolve() for directory in source.directories):
    if place == read or place in read.parents:
      raise UserError(
        f"--to='{target}': --from is read from there; give another directory"
      )
  return target


def _convert(
  source: Source, target: pathlib.Path, form: str, dtype: str
) -> int:
  """Writes the model; returns the number of its parameters."""
  config, params = source.read(dtype)
  if form == 'hf':
    huggingface.save(target, config, params, dtype=dtype, beside=source.beside)
  else:
    orbax_models.save(target, config, params, source.beside)
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _logits(config: ModelConfig, params: Any) -> np.ndarray:
  """`[N, S, V]` float32 for random tokens; ids that exist only."""
  size = config.used_vocab if config.used_vocab else config.vocab_size
  width = min(_TOKENS, config.max_positions)
  ids = np.random.default_rng(0).integers(0, size, (_ROWS, width), np.int32)
  return np.asarray(_run(config, params, ids))[..., :size]


@functools.partial(jax.jit, static_argnames='config')
def _run(config: ModelConfig, params: Any, ids: Array) -> Array:
  at = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
  hidden, _ = transformer.apply(config, params, ids, at, np.ones_like(at))
  return output_head.logits(config, params, hidden)


def _first_difference(expected: ModelConfig, found: ModelConfig) -> str:
  """Names a field in which two architectures differ."""
  for name, value in vars(expected).items():
    other = getattr(found, name)
    if other != value:
      return f'{name} is {other!r} there and {value!r} in --from'
  return 'nothing differs'


def _describe(summary: dict[str, Any]) -> str:
  step = '' if summary['step'] is None else f', step {summary["step"]}'
  lines = [
    f'{summary["from"]} ({summary["from_format"]}{step}, '
    f'{summary["from_dtype"]}) -> {summary["to"]} ({summary["format"]}, '
    f'{summary["dtype"]})',
    f'{summary["family"]}, {summary["parameters"]} parameters, '
    f'{summary["bytes"] / 1e6:.1f} MB, in {summary["seconds"]:.1f} s',
  ]
  check = summary['check']
  if check is not None and check['spread'] is not None:
    line = (
      f'check: logits differ by {check["max_difference"]:.1e} at most; their '
      f'standard deviation is {check["spread"]:.2f}'
    )
    if check['max_rounding']:
      line += (
        f'; {summary["dtype"]} itself moves them by '
        f'{check["max_rounding"]:.1e} at most'
      )
    lines.append(line)
  return '\n'.join(lines)
