"""Models that come with the package."""

import pathlib

from lrm_jax import errors

_ROOT = pathlib.Path(__file__).parent


def resolve(model: str) -> pathlib.Path:
  """The directory of a model: a path, or the name of an embedded one.

  Raises:
    UserError: neither exists.
  """
  path = pathlib.Path(model)
  if path.is_dir():
    return path
  embedded = sorted(p.name for p in _ROOT.iterdir() if is_model(p))
  if model in embedded:
    return _ROOT / model
  raise errors.UserError(
    f'model {model!r}: no such directory; give a directory in the Hugging '
    f'Face layout, or one of the embedded models: {", ".join(embedded)}'
  )


def resolve_file(name: str) -> pathlib.Path:
  """A file: a path, or one that comes with the package (`tiny_lrm/NAME`).

  What is neither comes back as it is, for its reader to refuse.
  """
  path = pathlib.Path(name)
  embedded = _ROOT / name
  return embedded if not path.exists() and embedded.is_file() else path


def is_model(path: pathlib.Path) -> bool:
  """Whether a directory holds a model."""
  return (path / 'config.json').is_file()
