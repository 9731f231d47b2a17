"""What every TFDS builder of problems shares.

TensorFlow is not needed: examples are stored as `array_record` and read with
`as_data_source`. This package imports TFDS, so `sources.py` imports it only
when a builder is used.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from lrm_jax.errors import UserError
from lrm_jax.structs import Problem


class ProblemBuilder(tfds.core.GeneratorBasedBuilder):
  """Stores `Problem`s, in order, one feature a field.

  A subclass sets `DESCRIPTION` and `HOMEPAGE` and overrides
  `_split_generators`, whose values come from `self._numbered(problems)`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  # Where TFDS looks for checksums.tsv. Its own way of finding it needs a
  # package (importlib_resources) that TFDS 4.9.10 does not install.
  code_path = epath.Path(__file__)
  DESCRIPTION: str
  HOMEPAGE: str | None = None
  # Of messages: how one goes on without preparing it.
  cure = 'cure that, or '

  def __init__(self, **kwargs):
    with _undamaged(self.title, _folder(kwargs)):
      super().__init__(file_format='array_record', **kwargs)

  @property
  def title(self) -> str:
    """What users call the data set."""
    return self.name

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      homepage=self.HOMEPAGE,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'question': tfds.features.Text(),
          'answer': tfds.features.Text(),
          'level': np.int32,
          'domain': tfds.features.Text(),
        }
      ),
      disable_shuffling=True,
    )

  def _generate_examples(
    self, problems: Iterable[Problem]
  ) -> Iterator[tuple[int, dict]]:
    for index, problem in enumerate(problems):
      yield (
        index,
        {
          'id': problem.id,
          'question': problem.question,
          'answer': problem.answer,
          'level': problem.level,
          'domain': problem.domain,
        },
      )


def _folder(arguments: Mapping) -> object:
  """Where a builder of these arguments keeps its files."""
  stated = arguments['data_dir'] if 'data_dir' in arguments else None
  return tfds.core.constants.DATA_DIR if stated is None else stated


def to_problem(example: Mapping) -> Problem:
  """The `Problem` of a stored example (TFDS gives texts as bytes)."""
  return Problem(
    id=example['id'].decode(),
    question=example['question'].decode(),
    answer=example['answer'].decode(),
    level=int(example['level']),
    domain=example['domain'].decode(),
  )


def prepared(builder: ProblemBuilder, split: str) -> Sequence:
  """The stored examples of a split, built first where they are missing.

  Args:
    builder: where it writes is its own `data_dir`.
    split: one of its splits.

  Returns:
    A random-access source of examples, for `to_problem`.

  Raises:
    UserError: the files cannot be downloaded, are not the expected ones, or
      cannot be written.
  """
  try:
    # TFDS talks on stdout, which belongs to the command's own summary.
    with contextlib.redirect_stdout(sys.stderr):
      builder.download_and_prepare()
  except (
    OSError,
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
  ) as error:
    raise UserError(
      f'data set {builder.title}: cannot be prepared in {builder.data_dir} '
      f'({" ".join(str(error).split())}); {builder.cure}give the path of a '
      '.jsonl file instead'
    ) from error
  with _undamaged(builder.title, builder.data_dir):
    return _Examples(builder, builder.as_data_source(split=split))


class _Examples(Sequence):
  """Stored examples by index; damaged ones are refused, never passed over.

  Every chunk of an array_record has a hash, which is looked at here.
  """

  def __init__(self, builder: ProblemBuilder, source: Sequence):
    self._builder = builder
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Mapping:
    if not 0 <= index < len(self):
      raise IndexError(f'{self._builder.title}: no example {index}')
    with _undamaged(self._builder.title, self._builder.data_dir):
      example = self._source[index]
      if None in example.values():
        raise ValueError(f'example {index} is not there')
    return example


@contextlib.contextmanager
def _undamaged(name: str, folder: object) -> Iterator[None]:
  """Says in one line what is wrong with files that TFDS once prepared.

  Raises:
    UserError: for everything that their readers raise.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # Of protocol buffers, array_record, TFDS ...
    reason = f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
    raise UserError(
      f'data set {name}: what was prepared in {folder} is damaged ({reason}); '
      'remove that folder, and it is prepared again'
    ) from error
