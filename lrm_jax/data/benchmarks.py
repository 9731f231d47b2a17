r"""Benchmarks by name: where they are published, and what must come out.

  published file -> parser -> Problems -> digest, the literal below

The project contains no benchmark. A file comes from a repository at a fixed
commit, or from DIR/FILE.jsonl of `--data_dir=DIR`, and the problems must be
these to the letter, whichever way they came. A row of a local file has `id`,
`question` and `answer`, as `sources.read_jsonl` takes it.

Conventions: an answer is a final answer, without `$` and, where the source
writes integers in another way (`1,234`, `025`, `27.0`), as a plain integer.
Several answers of OlympiadBench are one text with commas, as published; its
units and tolerances are no part of the answer, and the verifier uses neither
(units are not compared, one row has a tolerance). Minerva's answer is the last
box of the solution, Python leftovers such as `np.arcsin(10/13)` included.

The licences are those that the repositories state; the texts are by their
contests. All but gsm8k:train and math_train are for evaluation alone.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lrm_jax.rewards import math_answer
from lrm_jax.structs import Problem

_GITHUB = 'https://raw.githubusercontent.com/'
_QWEN = (
  f'{_GITHUB}QwenLM/Qwen2.5-Math/a45202bd16f1ec06f433442dc1152d0074773465/'
  'evaluation/data/'
)
_RLLM = f'{_GITHUB}agentica-project/rllm/874daa4a/rllm/data/'
_HARNESS = 'MIT of the harness; problems by the MAA'
# Rows of the published MATH part that are left out of math_train: duplicates,
# empty answers, and what shares half of its 12-grams with a test question.
_LEFT_OUT = frozenset(
  (167, 173, 886, 957, 1009, 1224, 1253, 1275, 1321, 1373, 1773, 1776, 1946)
  + (1982, 2039, 2060, 2311, 2502, 2629, 3190, 3304, 3834, 3865, 4269, 4310)
  + (4406, 4520, 5328, 5330, 5532, 5535, 6235, 6284, 6477, 6881, 6950, 6975)
  + (7116, 7138, 7264, 7278, 7337, 7353)
)
# From a page of the wiki that the contest files link.
_CONTEST = re.compile(
  r'.*/(?P<year>20\d\d)_(?P<name>AIME|AMC)_(?P<part>I|II|12A|12B)_Problems'
  r'/Problem_(?P<number>\d+)'
)

# row, its number, the split -> the problem; None for a row that is left out.
Parser = Callable[[Mapping[str, Any], int, str], Problem | None]


@dataclasses.dataclass(frozen=True)
class Split:
  """One file of a benchmark.

  Attributes:
    url: of the published file: JSON Lines, or one JSON list.
    rows: number of problems.
    digest: SHA-256 of the problems, see `digest_of`.
    file: name of a local copy of the problems, without `.jsonl`.
  """

  url: str
  rows: int
  digest: str
  file: str


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A set of problems that others publish.

  Attributes:
    homepage: of its authors.
    licence: as the repository states it that the file is taken from.
    parser: from a row of the published file to a problem.
    splits: by name; 'heldout' means 'test' here.
    domain: of problems whose rows do not state one.
  """

  homepage: str
  licence: str
  parser: Parser
  splits: Mapping[str, Split]
  domain: str = ''


def digest_of(problems: Iterable[Problem]) -> str:
  """SHA-256 over id, question and answer of each, as a JSON list a line."""
  found = hashlib.sha256()
  for problem in problems:
    row = [problem.id, problem.question, problem.answer]
    found.update(json.dumps(row).encode() + b'\n')
  return found.hexdigest()


def parse(benchmark: Benchmark, split: str, text: str) -> Iterator[Problem]:
  """The problems of a published file, in its order.

  Args:
    benchmark: of `BENCHMARKS`.
    split: one of its splits.
    text: all of the file.

  Yields:
    Problems; whether they are the right ones, `digest_of` tells.

  Raises:
    ValueError, KeyError, TypeError, AttributeError, IndexError: the text is
      something else.
  """
  if text.lstrip().startswith('['):
    rows = json.loads(text)
  else:
    # Not splitlines(): a text may hold U+2028, which ends no line here.
    rows = [json.loads(line) for line in text.split('\n') if line.strip()]
  for number, row in enumerate(rows):
    problem = benchmark.parser(row, number, split)
    if problem is not None:
      yield dataclasses.replace(
        problem, domain=problem.domain if problem.domain else benchmark.domain
      )


def final_answer(solution: str) -> str:
  """The number after the last `####` of GSM8K, without thousands commas.

  '#### 1,234' gives '1234'.

  Raises:
    ValueError: nothing stands after `####`, or there is none.
  """
  _, mark, answer = solution.rpartition('####')
  answer = answer.replace(',', '').strip()
  if not mark or not answer:
    raise ValueError(f'{solution[-40:]!r} does not end with #### NUMBER')
  return answer


def _integer(answer: str | int | float) -> str:
  """204, '025' and 27.0 as plain integers."""
  value = float(answer)
  if not value.is_integer():
    raise ValueError(f'{answer!r} is no integer')
  return str(int(value))


def _gsm8k(row: Mapping[str, Any], number: int, split: str) -> Problem:
  name = f'gsm8k-{split}-{number:04d}'
  return Problem(name, row['question'], final_answer(row['answer']))


def _contest(row: Mapping[str, Any], number: int, split: str) -> Problem:
  """AIME and AMC: the id says which year, paper and problem it is."""
  found = _CONTEST.fullmatch(row['url'])
  paper = f'{found["part"]}-{int(found["number"]):02d}'
  if found['name'] == 'AIME':
    name = f'aime{found["year"][2:]}-{paper}'
  else:
    name = f'amc-{found["year"]}-{paper}'
  return Problem(name, row['problem'], _integer(row['answer']))


def _math500(row: Mapping[str, Any], number: int, split: str) -> Problem:
  folder, _, file = row['unique_id'].removeprefix('test/').partition('/')
  return Problem(
    f'math500-{folder}-{file.removesuffix(".json")}',
    row['problem'],
    row['answer'],
    int(row['level']),
    row['subject'],
  )


def _minerva(row: Mapping[str, Any], number: int, split: str) -> Problem:
  solution = row['solution']
  start, stop = math_answer.box_spans(solution)[-1]
  name = f'minerva-{number:03d}'
  answer = solution[start:stop].strip()
  return Problem(name, row['problem'], answer, domain=row['type'])


def _olympiadbench(row: Mapping[str, Any], number: int, split: str) -> Problem:
  return Problem(
    f'olympiadbench-{row["id"]}',
    row['question'],
    row['final_answer'][0].replace('$', ''),
    domain=row['subfield'],
  )


def _math_train(
  row: Mapping[str, Any], number: int, split: str
) -> Problem | None:
  if number in _LEFT_OUT:
    return None
  name = f'math_train_rllm-{number:05d}'
  return Problem(name, row['problem'], str(row['answer']))


def _test(url: str, rows: int, digest: str, file: str) -> dict[str, Split]:
  return {'test': Split(url, rows, digest, file)}


_GSM8K = (
  f'{_GITHUB}openai/grade-school-math/'
  '3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/'
)

BENCHMARKS = {
  # Cobbe et al. 2021, arXiv:2110.14168.
  'gsm8k': Benchmark(
    'https://github.com/openai/grade-school-math',
    'MIT',
    _gsm8k,
    {
      'train': Split(
        f'{_GSM8K}train.jsonl',
        7473,
        '11c7c74542562a437b970ec8285b8e8af9b47bacc7e01eff1acc037cc0b1741c',
        'gsm8k_train',
      ),
      'test': Split(
        f'{_GSM8K}test.jsonl',
        1319,
        '559d1ffd87d697e0d7fad07d992a703d31ecf9a613e6c4fcb18b7890992c8c21',
        'gsm8k_test',
      ),
    },
    domain='arithmetic',
  ),
  # Lightman et al. 2023, arXiv:2305.20050: 500 of MATH. The repository keeps
  # it in Git's large file storage, of which this is the address.
  'math500': Benchmark(
    'https://github.com/openai/prm800k',
    'MIT',
    _math500,
    _test(
      'https://media.githubusercontent.com/media/openai/prm800k/'
      '7ecc794703b2877f63226f2477a49b34f9b25163/prm800k/math_splits/test.jsonl',
      500,
      'eddcf8f22e5dd31bec1574663bfd9d08e1a4683f0922aa42c505f730fc575638',
      'math500',
    ),
  ),
  'aime24': Benchmark(
    'https://artofproblemsolving.com/wiki',
    _HARNESS,
    _contest,
    _test(
      f'{_QWEN}aime24/test.jsonl',
      30,
      'ab34d0e6218f34f9290cec9728745e4e548e290d031c637c0c4d248a70cb1adc',
      'aime24',
    ),
  ),
  'aime25': Benchmark(
    'https://artofproblemsolving.com/wiki',
    _HARNESS,
    _contest,
    _test(
      f'{_GITHUB}armenjeddi/mcd/76771f969048ebd77a1b4261b0a3469192c6f92a/'
      'evaluation/data/aime25/test.jsonl',
      30,
      '4e308c3e8e0701557a0a4471947c4137e2f9139cbd0f7bf755706eeeca82e862',
      'aime25',
    ),
  ),
  # Qwen's 40 of the AMC 12 of 2023; they are among the 83 of amc22_23.
  'amc23': Benchmark(
    'https://artofproblemsolving.com/wiki',
    _HARNESS,
    _contest,
    _test(
      f'{_QWEN}amc23/test.jsonl',
      40,
      '9e88043c95d6ed75fef1addfbdb08223908f35abc071d2ebe1ea2c1a9f3ef2ee',
      'amc23',
    ),
  ),
  # "AMC" of DeepScaleR and of the papers on it.
  'amc22_23': Benchmark(
    'https://artofproblemsolving.com/wiki',
    'MIT of the repository; problems by the MAA',
    _contest,
    _test(
      f'{_RLLM}test/math/amc.json',
      83,
      '4aa936ce737302832f46f2ce70667504d779660a919b38e02f59e9a1d4882c55',
      'amc22_23',
    ),
  ),
  # Lewkowycz et al. 2022, arXiv:2206.14858: physics, chemistry, astronomy and
  # economics of MIT OpenCourseWare. 70 questions hold solved earlier parts.
  'minerva': Benchmark(
    'https://arxiv.org/abs/2206.14858',
    'MIT of the harness; problems by MIT OpenCourseWare',
    _minerva,
    _test(
      f'{_QWEN}minerva_math/test.jsonl',
      272,
      '95f9175f0ff881ef5b1e1b5652f9c1d0f4168c92fa40ab2bc23a3234ffc19b83',
      'minerva_math',
    ),
  ),
  # He et al. 2024, arXiv:2402.14008: English, text alone, open answers.
  'olympiadbench': Benchmark(
    'https://github.com/OpenBMB/OlympiadBench',
    'MIT of the harness; the benchmark states none',
    _olympiadbench,
    _test(
      f'{_QWEN}olympiadbench/test.jsonl',
      675,
      'f4d1a2ead7dcb49a7bafae7c20be08c9c7c0262d2ac929a8841515edf08492ce',
      'olympiadbench',
    ),
  ),
  # The MATH part of DeepScaleR-Preview, less what is in the tests above.
  'math_train': Benchmark(
    'https://github.com/hendrycks/math',
    'MIT',
    _math_train,
    {
      'train': Split(
        f'{_RLLM}train/math/math.json',
        7431,
        '1e69928fe9bce8a9e7f83ef9ae8899c382a9fbae5cc0a824cb358e92c9aac972',
        'math_train',
      )
    },
  ),
}
