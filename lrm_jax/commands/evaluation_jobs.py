"""What one `lrm eval` has to do: a job for each data set, before any work."""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from lrm_jax import assets, storage
from lrm_jax.commands import loading, output
from lrm_jax.data import prompts, sources
from lrm_jax.errors import UserError
from lrm_jax.evaluation import chunks, settings
from lrm_jax.structs import Problem
from lrm_jax.tokenization import base

# Of generated problems there is no end; a quick look takes these many.
GENERATED_LIMIT = 256
# What decides on the law of a model, beside the dtype.
_MODEL_FILES = ('*.safetensors', '*.json', '*.model', '*.jinja')


@dataclasses.dataclass(frozen=True)
class Job:
  """One data set to evaluate on.

  Attributes:
    name: of its folder; '' where there is no other data set.
    folder: that it writes into.
    problems: all of them.
    record: what is evaluated, and how: verb, model, data, settings (see
      `evaluation/settings.py`), seed and identity of the model. Another start
      with the same record goes on with the same evaluation.
  """

  name: str
  folder: storage.Path
  problems: list[Problem]
  record: dict[str, Any]


def make(flag_values: flags.FlagValues, folder: storage.Path) -> list[Job]:
  """The jobs of --data, in its order; reads problems, writes nothing.

  Args:
    flag_values: of `lrm eval`.
    folder: --workdir.

  Raises:
    UserError: a data set or a model that cannot be read, two data sets of one
      name, or a folder that cannot be used.
  """
  specs = split(flag_values.data)
  names = _names(flag_values.data, specs)
  if len(specs) > 1:
    _check_folder(folder, specs)
    for name in names:
      output.output_folder(str(folder / name))
  data_sets = [_load(flag_values, spec) for spec in specs]
  identity = identify(flag_values.model, flag_values.dtype)
  return [
    Job(
      name,
      folder / name if name else folder,
      problems,
      {
        'verb': 'eval',
        'model': flag_values.model,
        'data': spec,
        'settings': _settings(flag_values, problems),
        'seed': flag_values.seed,
        'identity': identity,
      },
    )
    for name, spec, problems in zip(names, specs, data_sets, strict=True)
  ]


def common(jobs: Sequence[Job]) -> dict[str, Any]:
  """What the summary above several says of all: verb, model, data, ..."""
  first = jobs[0].record
  own = {key: first[key] for key in ('verb', 'model', 'seed', 'identity')}
  shared = ('samples', 'max_tokens', 'temperature')
  return (
    own
    | {'data': [job.record['data'] for job in jobs]}
    | {key: first['settings'][key] for key in shared}
  )


def check_target(flag_values: flags.FlagValues) -> None:
  """Refuses a target that no prompt states, or a place that gets none.

  Raises:
    UserError: see above; or a level that is none.
  """
  number, level = (p in flag_values.instruction for p in prompts.PLACES)
  target = flag_values.target
  low, high = (int(number), 2 if level else 1 << 30)
  if not (number or level):
    low = high = 0
  if not low <= target <= high:
    raise UserError(
      f'--target={target} and --instruction={flag_values.instruction!r}: '
      'prompts ask for a target of 1 or more where the instruction has '
      '{target}, for a level of 0 to 2 where it has {level}, else for none; '
      'change one of them'
    )


def identify(model: str, dtype: str) -> dict[str, Any]:
  """What was evaluated: path, dtype, and digests of files and tokenizer.

  Args:
    model: --model.
    dtype: of its parameters.

  Raises:
    UserError: there is no such model.
  """
  directory = assets.resolve(model)
  return {
    'path': model,
    'checksum': checksum(directory),
    'dtype': dtype,
    'tokenizer': base.load(directory).fingerprint,
  }


def checksum(directory: pathlib.Path) -> str:
  """SHA-256 of the files of a model: weights, config, tokenizer, by name."""
  found = hashlib.sha256()
  paths = {path for kind in _MODEL_FILES for path in directory.glob(kind)}
  for path in sorted(paths):
    if path.is_file():
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
      found.update(f'{path.name} {digest}\n'.encode())
  return found.hexdigest()


def split(text: str) -> list[str]:
  """Data sets with commas between; those of keys (`?A=1,B=[2,3]`) are not."""
  return [spec for spec in re.split(r',(?!\w+=)(?![^\[]*\])', text) if spec]


def _names(text: str, specs: Sequence[str]) -> list[str]:
  """The folders of data sets: a file's stem, or the name with its options."""
  if not specs:
    raise UserError(f'--data={text!r}: names no data set; give one at least')
  if len(specs) == 1:
    return ['']
  names = [
    re.sub(r'[^\w.-]+', '_', storage.as_path(spec).stem)
    if spec.endswith('.jsonl')
    else re.sub(r'[^\w.-]+', '_', spec)
    for spec in specs
  ]
  for place, name in enumerate(names):
    if name in names[:place]:
      raise UserError(
        f'--data={text!r}: two data sets would be in the folder {name!r}; '
        'evaluate them with a --workdir each'
      )
  return names


def _check_folder(folder: storage.Path, specs: Sequence[str]) -> None:
  """Refuses the folder of an evaluation of one data set, or of others."""
  with storage.explained(folder):
    if (folder / 'chunks').exists() or (folder / 'rollouts.jsonl.gz').exists():
      raise UserError(
        f"--workdir='{folder}' holds an evaluation of one data set, and --data "
        f'names {len(specs)}; choose another --workdir'
      )
    if not (folder / 'summary.json').exists():
      return
  chunks.check(folder, {'verb': 'eval', 'data': list(specs)})


def _load(flag_values: flags.FlagValues, spec: str) -> list[Problem]:
  limit = flag_values.limit
  how = {'split': flag_values.split, 'data_dir': flag_values.data_dir}
  source = sources.load_problems(spec, limit=limit, **how)
  if limit is None and source.is_generated:
    source = sources.load_problems(spec, limit=GENERATED_LIMIT, **how)
  return [source[index] for index in range(len(source))]


def _settings(
  flag_values: flags.FlagValues, problems: Sequence[Problem]
) -> dict[str, Any]:
  return settings.of_evaluation(
    problems,
    samples=flag_values.n,
    max_tokens=flag_values.max_tokens,
    temperature=flag_values.temperature,
    truncation=loading.parse_truncation(flag_values.truncation),
    thinking_budget=flag_values.thinking_budget,
    thinking_end=flag_values.thinking_end,
    stop=flag_values.stop,
    instruction=flag_values.instruction,
    target=flag_values.target,
  )
