"""The project's own chain arithmetic, stored as a TFDS data set.

Training reads the generator itself (`sources.load_problems`); a stored copy
is for tools that want files.
"""

import tensorflow_datasets as tfds

from lrm_jax.data import sources
from lrm_jax.data.builders import base


class ChainArithmetic(base.ProblemBuilder):
  """The first problems of each split of the generator.

  Sizes and levels are part of the configuration's name, so one set is never
  answered from the files of another.

  Args:
    train_size: problems of the split `train`.
    heldout_size: problems of the split `heldout`.
    levels: '3' or '2-6', see `sources.load_problems`; None for the
      generator's own choice.
    **kwargs: of the TFDS builder, such as `data_dir`.

  Raises:
    UserError: a size below 1, or unknown levels.
  """

  DESCRIPTION = 'Procedurally generated chains of integer arithmetic.'

  def __init__(
    self,
    *,
    train_size: int = 10_000,
    heldout_size: int = 1_000,
    levels: str | None = None,
    **kwargs,
  ):
    suffix = '' if levels is None else f':{levels}'
    self._sources = {
      split: sources.load_problems(
        f'chain_arithmetic:{split}{suffix}', limit=size
      )
      for split, size in (('train', train_size), ('heldout', heldout_size))
    }
    lengths = [str(len(source)) for source in self._sources.values()]
    super().__init__(
      config=tfds.core.BuilderConfig(
        name='-'.join([*lengths, 'default' if levels is None else levels])
      ),
      **kwargs,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # nothing is downloaded
    return {
      split: self._generate_examples(source)
      for split, source in self._sources.items()
    }
