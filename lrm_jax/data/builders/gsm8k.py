r"""GSM8K: 7473 + 1319 grade-school word problems with integer answers.

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems",
arXiv:2110.14168; https://github.com/openai/grade-school-math (MIT licence).
One line of the source:

  {"question": "Natalia sold clips to 48 ...", "answer": "Natalia sold 48/2 =
  <<48/2=24>>24 clips in May.\n...\n#### 72"}
"""

import hashlib
import json
import pathlib
import urllib.request
from collections.abc import Iterator

import tensorflow_datasets as tfds

from lrm_jax.data.builders import base
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem

_SPLITS = ('train', 'test')
_URL = (
  'https://raw.githubusercontent.com/openai/grade-school-math/'
  '3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/'
)


class Gsm8k(base.ProblemBuilder):
  """The published files, downloaded or from a local copy.

  Both ways the files must have the size and SHA-256 of `checksums.tsv`, so
  what is stored never depends on where it came from.

  Args:
    local_path: a directory with the published `train.jsonl` and
      `test.jsonl`; None to download them.
    **kwargs: of the TFDS builder, such as `data_dir`.
  """

  # TFDS itself has a `gsm8k` with other features; share no directory with it.
  name = 'gsm8k_problems'
  DESCRIPTION = 'Grade-school word problems with integer answers.'
  HOMEPAGE = 'https://github.com/openai/grade-school-math'

  def __init__(self, *, local_path: str | None = None, **kwargs):
    self._local_path = local_path
    super().__init__(**kwargs)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    urls = {split: f'{_URL}{split}.jsonl' for split in _SPLITS}
    if self._local_path is None:
      # Without a network TFDS tries again for minutes; one probe fails now.
      probe = urllib.request.Request(urls['test'], method='HEAD')
      urllib.request.urlopen(probe, timeout=30).close()
      paths = dl_manager.download(urls)
    else:
      paths = {split: self._verified(split, url) for split, url in urls.items()}
    return {
      split: self._generate_examples(read(path, split))
      for split, path in paths.items()
    }

  def _verified(self, split: str, url: str) -> pathlib.Path:
    path = pathlib.Path(self._local_path) / f'{split}.jsonl'
    if not path.is_file():
      raise UserError(
        f'{path}: no such file; local_path must hold train.jsonl and '
        f'test.jsonl of {self.HOMEPAGE}'
      )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != self.url_infos[url].checksum:
      raise UserError(
        f'{path}: has sha256 {found[:8]}..., the published file has '
        f'{self.url_infos[url].checksum[:8]}...; download it again, or give '
        'a .jsonl path as the data set to use other problems'
      )
    return path


def read(path: str | pathlib.Path, split: str) -> Iterator[Problem]:
  """The problems of a published file, with ids such as gsm8k-test-0000."""
  with open(path, encoding='utf-8') as lines:
    for index, line in enumerate(lines):
      row = json.loads(line)
      yield Problem(
        id=f'gsm8k-{split}-{index:04d}',
        question=row['question'],
        answer=final_answer(row['answer']),
        domain='arithmetic',
      )


def final_answer(solution: str) -> str:
  """The number after the last `####`, without thousands commas.

  Args:
    solution: a published solution.

  Returns:
    The number as text: '#### 1,234' gives '1234'.

  Raises:
    UserError: nothing stands after `####`, or there is none.
  """
  _, _, answer = solution.rpartition('####')
  answer = answer.replace(',', '').strip()
  if '####' not in solution or not answer:
    raise UserError(
      f'gsm8k solution {solution[-40:]!r}: expected "#### NUMBER" at its end; '
      'use the published files'
    )
  return answer
