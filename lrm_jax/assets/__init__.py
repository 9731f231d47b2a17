"""Models that come with the package."""

import pathlib

from lrm_jax import errors, storage

_ROOT = pathlib.Path(__file__).parent


def resolve(model: str) -> pathlib.Path:
  """The directory of a model: a path, or the name of an embedded one.

  A model in a bucket is copied to this machine.

  Raises:
    UserError: neither exists.
  """
  path = storage.as_path(model)
  if storage.is_remote(path):
    copy = storage.local_copy(path)
    if not is_model(copy):
      raise errors.UserError(
        f'model {model!r}: no config.json is there; give the folder of a model'
      )
    return copy
  if path.is_dir():
    return path
  embedded = sorted(p.name for p in _ROOT.iterdir() if is_model(p))
  if model in embedded:
    return _ROOT / model
  raise errors.UserError(
    f'model {model!r}: no such directory; give a directory in the Hugging '
    f'Face layout, or one of the embedded models: {", ".join(embedded)}'
  )


def architecture(model: str) -> pathlib.Path:
  """A directory with the config.json of a model; weights need not be there.

  That of the model if it is here, else the one that comes with the package for
  models of its name.

  Raises:
    UserError: neither is.
  """
  known = _ROOT / 'architectures'
  embedded = known / pathlib.Path(model).name
  if not pathlib.Path(model).is_dir() and is_model(embedded):
    return embedded
  try:
    return resolve(model)
  except errors.UserError as error:
    names = ', '.join(sorted(path.name for path in known.iterdir()))
    raise errors.UserError(f'{error}; shapes are known of {names}') from None


def resolve_file(name: str) -> storage.Path:
  """A file: a path, or one that comes with the package (`tiny_lrm/NAME`).

  What is neither comes back as it is, for its reader to refuse.
  """
  path = storage.as_path(name)
  embedded = _ROOT / name
  return embedded if not path.exists() and embedded.is_file() else path


def is_model(path: pathlib.Path) -> bool:
  """Whether a directory holds a model."""
  return (path / 'config.json').is_file()
