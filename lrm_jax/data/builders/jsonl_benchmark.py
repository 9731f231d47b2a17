"""Any JSONL file of problems as a TFDS data set."""

import hashlib
import pathlib

import tensorflow_datasets as tfds

from lrm_jax.data import sources
from lrm_jax.data.builders import base


class JsonlBenchmark(base.ProblemBuilder):
  """The problems of one file, as the split `test`.

  The configuration is named after the file and its content, so a changed file
  is built anew instead of answered from an older build.

  Args:
    path: the file; its fields are those of `sources.read_jsonl`.
    **kwargs: of the TFDS builder, such as `data_dir`.

  Raises:
    UserError: the file cannot be read or a row is not a problem.
  """

  DESCRIPTION = 'Problems of a JSONL file.'

  def __init__(self, *, path: str | pathlib.Path, **kwargs):
    self._problems = sources.read_jsonl(path)
    path = pathlib.Path(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config = tfds.core.BuilderConfig(name=f'{path.stem}-{digest[:12]}')
    super().__init__(config=config, **kwargs)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # the file is local
    return {'test': self._generate_examples(self._problems)}
