"""The benchmarks of `data/benchmarks.py` as TFDS data sets."""

import pathlib
import urllib.request

import tensorflow_datasets as tfds

from lrm_jax.data import benchmarks
from lrm_jax.data.builders import base
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

# What parsers raise on another file.
_OTHER = (ValueError, KeyError, TypeError, AttributeError, IndexError)


class PublishedProblems(base.ProblemBuilder):
  """One benchmark, downloaded, with every split that it has.

  The configuration is named after the benchmark and its digests, so what an
  earlier version of this program has stored is never taken for it. Downloads
  whose checksum is known are held against `checksums.tsv`; the problems are
  always held against the digest.

  Args:
    benchmark: its name in `BENCHMARKS`.
    **kwargs: of the TFDS builder, such as `data_dir`.
  """

  DESCRIPTION = 'Problems with checkable answers, as they are published.'

  def __init__(self, *, benchmark: str, **kwargs):
    self._benchmark = benchmark
    self._source = benchmarks.BENCHMARKS[benchmark]
    self.HOMEPAGE = self._source.homepage
    splits = self._source.splits.values()
    version = '-'.join(split.digest[:8] for split in splits)
    config = tfds.core.BuilderConfig(name=f'{benchmark}-{version}')
    super().__init__(config=config, **kwargs)

  @property
  def title(self) -> str:
    """Its name, as users give it."""
    return self._benchmark

  @property
  def cure(self) -> str:
    """A local copy needs no download."""
    files = (f'{split.file}.jsonl' for split in self._source.splits.values())
    return (
      'cure that, or keep a copy in the data directory '
      f'({", ".join(files)}), or '
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    urls = {name: split.url for name, split in self._source.splits.items()}
    # Without a network TFDS tries again for minutes; one probe fails now.
    probe = urllib.request.Request(next(iter(urls.values())), method='HEAD')
    urllib.request.urlopen(probe, timeout=30).close()
    paths = dl_manager.download(urls)
    return {
      split: self._generate_examples(self._verified(split, path))
      for split, path in paths.items()
    }

  def _verified(self, split: str, path: str) -> list[Problem]:
    text = pathlib.Path(path).read_bytes().decode('utf-8')
    where = self._source.splits[split].url
    try:
      problems = list(benchmarks.parse(self._source, split, text))
    except _OTHER as error:
      raise UserError(
        f'{where}: is not the published {self._benchmark} '
        f'({type(error).__name__}: {" ".join(str(error).split())[:200]}); give '
        'the path of a .jsonl file instead'
      ) from error
    found, told = benchmarks.digest_of(problems), self._source.splits[split]
    if found != told.digest:
      raise UserError(
        f'{where}: has {len(problems)} problems with sha256 {found[:8]}..., '
        f'{self._benchmark}:{split} has {told.rows} with {told.digest[:8]}...; '
        'the source has changed: give the path of a .jsonl file instead'
      )
    return problems
