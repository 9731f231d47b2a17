"""A model on disk, whichever of three forms it has.

hf      a directory in the Hugging Face layout
orbax   a directory that `lrm convert` wrote
run     the workdir of `lrm train` or `lrm sft`: one of its checkpoints
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from lrm_jax import assets, small_files, workdir
from lrm_jax.checkpoints import (
  config_json,
  extras,
  huggingface,
  orbax_models,
)
from lrm_jax.errors import UserError
from lrm_jax.models import presets
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.tokenization import base

# Fields of a config's `model` that say how it runs, not what it is.
RUNNING = {
  field.name: field.default
  for field in dataclasses.fields(ModelConfig)
  if field.name in config_json.NOT_OURS_TO_STATE and field.name != 'family'
}
# And those that say where it comes from.
_ORIGIN = ('path', 'new')
# What plain values raise that are none of a model.
_NO_MODEL = (TypeError, ValueError, KeyError, ArithmeticError)


@dataclasses.dataclass(frozen=True)
class Source:
  """A model that can be read.

  Attributes:
    kind: 'hf', 'orbax' or 'run'.
    directories: all that it is read from; the first was asked for.
    config: the architecture; `RUNNING` for the rest.
    dtype: that of the stored parameters.
    step: of the checkpoint; None where it is not of a run.
    beside: tokenizer files and ids.
    load: config with a param_dtype -> parameters on the default device.
  """

  kind: str
  directories: tuple[pathlib.Path, ...]
  config: ModelConfig
  dtype: str
  step: int | None
  beside: extras.Extras
  load: Callable[[ModelConfig], Params]

  def read(self, dtype: str) -> tuple[ModelConfig, Params]:
    """Config and parameters, these in any dtype of ours.

    Raises:
      UserError: files that are damaged, or not those of the config.
    """
    config = dataclasses.replace(self.config, param_dtype=dtype)
    return config, self.load(config)


def open_source(
  directory: str | pathlib.Path, step: int | None = None
) -> Source:
  """Finds out which form a model has; reads no parameters.

  Args:
    directory: of the model or the run, or the name of an embedded model.
    step: of a run; None: its newest checkpoint.

  Raises:
    UserError: nothing of the kind is there, or its files are damaged.
  """
  directory = assets.resolve(str(directory))
  if _is_run(directory):
    return _of_run(directory, step)
  if step is not None:
    raise UserError(
      f'--step={step}: {directory} is a model, not the workdir of a run; leave '
      'it out'
    )
  config = huggingface.read_config(directory)
  if orbax_models.is_model(directory):
    stored = orbax_models.open_model(directory)
    kind, dtype, load = 'orbax', stored.dtype(), stored.load
  else:
    kind, dtype = 'hf', huggingface.stored_dtype(directory)
    load = lambda config: huggingface.load(
      directory, param_dtype=config.param_dtype
    )[1]
  beside = extras.of_directory(directory)
  return Source(kind, (directory,), config, dtype, None, beside, load)


def _is_run(directory: pathlib.Path) -> bool:
  try:
    stated = small_files.read_json(directory / 'config.json')
  except (OSError, ValueError):
    return (directory / 'checkpoints').is_dir()
  return workdir.is_record(stated)


def _of_run(directory: pathlib.Path, step: int | None) -> Source:
  record = workdir.read_record(
    directory / 'config.json', 'give the folder of another run or of a model'
  )
  model = _model(directory, record['config'])
  if model['path'] is None:
    origin, config = directory / 'tokenizer', _new(directory, model['new'])
  else:
    origin = _origin(directory, model['path'])
    config = huggingface.read_config(origin)
  changes = _changes(directory, model)
  try:
    config = presets.change(config, **changes)
  except _NO_MODEL as error:
    raise UserError(
      f'{directory}: model of its config is none ({error}); use the version of '
      'lrm_jax that the run was made with'
    ) from error
  step, stored = orbax_models.open_run(directory, step)
  return Source(
    'run',
    (directory, origin),
    dataclasses.replace(config, **RUNNING),
    stored.dtype(),
    step,
    extras.of_tokenizer(base.load(origin)),
    stored.load,
  )


def _model(directory: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """The group `model` of a run's config, where it has one."""
  model = config['model'] if 'model' in config else None
  path = model['path'] if isinstance(model, dict) and 'path' in model else 0
  is_new = path is None and 'new' in model and isinstance(model['new'], dict)
  if not (is_new or isinstance(path, str)):
    raise UserError(
      f'{directory}: its config.json has no model.path or model.new; give the '
      'workdir of a run'
    )
  return model


def _new(directory: pathlib.Path, fields: dict[str, Any]) -> ModelConfig:
  """The architecture of a run that started from nothing."""
  try:
    return presets.build(**fields)
  except _NO_MODEL as error:
    raise UserError(
      f'{directory}: model.new of its config is no model ({error}); use the '
      'version of lrm_jax that the run was made with'
    ) from error


def _origin(directory: pathlib.Path, path: str) -> pathlib.Path:
  """The model that a run started from; what it exported has the same files."""
  try:
    return assets.resolve(path)
  except UserError as error:
    if (directory / 'model').is_dir():
      return directory / 'model'
    raise UserError(
      f'{directory}: its run started from model.path={path!r}, which is not '
      'there; run this in the folder where the run was started'
    ) from error


def _changes(directory: pathlib.Path, model: dict[str, Any]) -> dict[str, Any]:
  """Fields of the architecture that the run set itself."""
  names = {field.name for field in dataclasses.fields(ModelConfig)}
  changes = {k: v for k, v in model.items() if k not in (*RUNNING, *_ORIGIN)}
  unknown = sorted(changes.keys() - names)
  if unknown:
    raise UserError(
      f'{directory}: its config has model.{unknown[0]}, which lrm convert does '
      f'not know; use the {directory / "model"} that the run writes at its end'
    )
  return changes
