r"""Throws texts at the verifier: none may raise, hang or fill the memory.

  python experiments/faults/fuzz.py --inputs=100000 [--data=DIR]
      [--output=FILE] [--seed=0]

The inputs are text made by hypothesis (2 of 10), answers of --data (a folder of
JSON Lines files with `answer` in each row; a list of spellings where it is not
given) changed in a few places (1 of 10), whole responses with such an answer,
changed likewise (the rest), and the bombs of `bombs.py`. Then come the gold
answers of --data against themselves and against each other, and the rate of
simple verdicts. Prints what was found and writes results/fuzz.json.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import sys
import time
from collections.abc import Iterator

import bombs
import golds
import hypothesis
from hypothesis import strategies as st

from lrm_jax import jsonl
from lrm_jax.rewards import math_answer, pool

HERE = pathlib.Path(__file__).parent
# Processor seconds of a comparison; a second of wall clock may be added.
LIMIT, GRACE = 1.0, 1.0
CHUNK = 500
# How many of the slowest are timed again, one at a time.
ALONE = 20
LIBRARIES = ('math-verify', 'latex2sympy2_extended', 'sympy', 'hypothesis')

Pair = tuple[str, str]


class TimedGrader(pool.Grader):
  """Notes how long each comparison took, by wall clock in the parent."""

  def __init__(self, *args, **keywords):
    """As `pool.Grader`."""
    super().__init__(*args, **keywords)
    self.slowest, self.compared, self.lost = [], 0, 0

  def _settle(self, worker, batch):
    job, deadline = worker.job, worker.deadline
    super()._settle(worker, batch)
    if job is None or job not in batch.results:
      return
    began = deadline - pool._MAX_SLOWDOWN * self._timeout
    seconds = time.monotonic() - began
    self.compared += 1
    self.lost += batch.results[job] is None
    self.slowest = sorted([*self.slowest, (seconds, *job)], reverse=True)[
      :ALONE
    ]

  @property
  def pids(self) -> list[int]:
    """Of its processes."""
    return [worker.process.pid for worker in self._workers]


def hypothesis_pairs(count: int, seed: int) -> list[Pair]:
  """Texts that hypothesis makes: any characters, and LaTeX in disorder."""
  piece = st.one_of(st.text(max_size=8), st.sampled_from(bombs.FRAGMENTS))
  body = st.lists(piece, max_size=12).map(''.join)
  boxed = body.map(lambda text: rf'</think>\boxed{{{text}}}')
  response = st.one_of(boxed, body, body.map(lambda text: f'</think>{text}'))
  gold = st.one_of(st.sampled_from(bombs.SPELLINGS), body)
  found: list[Pair] = []

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=-(-count // 5),
    deadline=None,
    database=None,
    derandomize=False,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
  )
  @hypothesis.given(st.lists(st.tuples(response, gold), min_size=5, max_size=5))
  def collect(pairs):
    found.extend(pairs)

  collect()
  return found[:count]


def mutate(text: str, rng: random.Random) -> str:
  """The text after one to four changes: cut, put in, doubled, exchanged."""
  for _ in range(rng.randint(1, 4)):
    at = rng.randrange(len(text) + 1)
    to = min(len(text), at + rng.randint(0, 3))
    kind = rng.randrange(4)
    if kind == 0:
      text = text[:at] + text[to:]
    elif kind == 1:
      text = text[:at] + rng.choice(bombs.FRAGMENTS) + text[at:]
    elif kind == 2:
      text = text[:to] + text[at:]
    else:
      text = text[:at] + chr(rng.randrange(32, 0x3000)) + text[to:]
  return text


def mutated_pairs(
  count: int, answers: list[str], rng: random.Random
) -> Iterator[Pair]:
  """Changed answers, each against the one it was made of."""
  for _ in range(count):
    gold = rng.choice(answers)
    yield rf'</think>It is $\boxed{{{mutate(gold, rng)}}}$.', gold


def mutated_responses(
  count: int, answers: list[str], rng: random.Random
) -> Iterator[Pair]:
  """Changed responses, tags and boxes too, each against its answer."""
  for _ in range(count):
    gold = rng.choice(answers)
    text = (
      rf'So {rng.randrange(100)} + {rng.randrange(100)}. Wait.</think>'
      rf'The answer is $\boxed{{{gold}}}$.'
    )
    yield mutate(text, rng), gold


def make_inputs(count: int, answers: list[str], seed: int) -> list[Pair]:
  """`count` pairs of all kinds, in random order."""
  rng = random.Random(seed)
  pairs = [(rf'</think>\boxed{{{b}}}', '1') for b in bombs.BOMBS]
  pairs += [(text, '1') for text in bombs.RESPONSES]
  pairs += hypothesis_pairs(count // 5, seed)
  pairs += mutated_pairs(count // 10, answers, rng)
  pairs += mutated_responses(count - len(pairs), answers, rng)
  pairs = pairs[:count]
  rng.shuffle(pairs)
  return pairs


def resident(pid: int) -> float:
  """MB in memory; 0 for a process that has gone."""
  try:
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
  except OSError:
    return 0.0
  return int(status.split('VmRSS:')[1].split()[0]) / 1024


def run(pairs: list[Pair], grader: TimedGrader) -> dict:
  """Grades them all; counts what came out and looks at the memory."""
  counts, errors, memory, slowest_exact = {}, [], [], 0.0
  marks = {round(i * len(pairs) / 8) for i in range(1, 9)}
  began, done = time.monotonic(), 0
  while done < len(pairs):
    chunk = pairs[done : done + CHUNK]
    for response, gold in chunk:
      start = time.monotonic()
      math_answer.grade_exact(response, gold)
      slowest_exact = max(slowest_exact, time.monotonic() - start)
    try:
      verdicts = grader.grade(chunk)
    except Exception as error:
      errors.append(repr(error))
      verdicts = []
    for verdict in verdicts:
      key = 'correct' if verdict.correct else verdict.status
      counts[key] = counts.get(key, 0) + 1
    if any(done < mark <= done + len(chunk) for mark in marks) or not done:
      sizes = [resident(pid) for pid in grader.pids]
      memory.append(
        {
          'inputs': done + len(chunk),
          'parent_mb': round(resident(os.getpid()), 1),
          'largest_worker_mb': round(max(sizes, default=0), 1),
          'load': round(os.getloadavg()[0], 1),
        }
      )
      print(memory[-1], counts, flush=True)
    done += len(chunk)
  return {
    'inputs': len(pairs),
    'seconds': time.monotonic() - began,
    'verdicts': counts,
    'exceptions': errors,
    'limit_seconds': LIMIT,
    'slowest_verdict_seconds': max((s for s, *_ in grader.slowest), default=0),
    'slowest_exact_seconds': slowest_exact,
    'compared_by_workers': grader.compared,
    'workers_lost': grader.lost,
    'memory': memory,
  }


def alone(slowest: list[tuple[float, str, str]]) -> list[dict]:
  """The slowest comparisons again, one at a time in one process."""
  found = []
  with TimedGrader(1, LIMIT) as grader:
    for before, answer, gold in slowest:
      # Its processes are there before the clock starts.
      grader.grade([(r'</think>\boxed{\sqrt{8}}', r'2\sqrt{2}')])
      grader.slowest = []
      grader.grade([(rf'</think>\boxed{{{answer}}}', gold)])
      seconds = max((s for s, *_ in grader.slowest), default=0.0)
      found.append(
        {
          'seconds': round(before, 2),
          'seconds_alone': round(seconds, 2),
          'load': round(os.getloadavg()[0], 1),
          'answer': answer[:100],
        }
      )
  return found


def simple_rate(grader: pool.Grader, count: int = 20_000) -> dict:
  """Verdicts/s of fresh pairs; half of them right."""
  rng = random.Random(1)
  thinking = 'Let me add the numbers, and then check the result. ' * 20
  forms = {
    'integers': (lambda a: str(a), lambda a: str(a)),
    'fractions': (lambda a: rf'\frac{{{a}}}{{7}}', lambda a: f'{a}/7'),
    'algebra': (lambda a: rf'2\sqrt{{{a}}}', lambda a: rf'\sqrt{{{4 * a}}}'),
  }
  rates = {}
  grader.grade(
    [(rf'</think>\boxed{{\sqrt{{{4 * n}}}}}', rf'2\sqrt{n}') for n in range(5)]
  )
  for name, (answer, gold) in forms.items():
    numbers = rng.sample(range(10**6), count if name != 'algebra' else 500)
    pairs = [
      (
        rf'{thinking}</think>So it is $\boxed{{{answer(a)}}}$.',
        gold(a if a % 2 else a + 1),
      )
      for a in numbers
    ]
    start = time.monotonic()
    verdicts = grader.grade(pairs)
    rates[name] = len(pairs) / (time.monotonic() - start)
    right = sum(a % 2 for a in numbers)
    if sum(verdict.correct for verdict in verdicts) != right:
      raise RuntimeError(f'{name}: not {right} right ones')
  return rates


def main() -> int:
  """Returns 1 if anything raised."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--inputs', type=int, default=100_000)
  parser.add_argument('--data', type=pathlib.Path, default=None)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument(
    '--output', type=pathlib.Path, default=HERE / 'results' / 'fuzz.json'
  )
  options = parser.parse_args()
  files = {} if options.data is None else golds.read(options.data)
  answers = [a for column in files.values() for a in column]
  pairs = make_inputs(
    options.inputs, answers if answers else bombs.SPELLINGS, options.seed
  )
  with TimedGrader(options.workers, LIMIT) as grader:
    found = run(pairs, grader)
    slowest = grader.slowest
  print('the slowest again, alone', flush=True)
  found['slowest'] = alone(slowest)
  print('rates and golds', flush=True)
  with pool.Grader(options.workers) as grader:
    found['simple_verdicts_per_second'] = simple_rate(grader)
    found['golds'] = golds.check(files, grader, options.seed)
  found |= {'seed': options.seed, 'workers': options.workers}
  found['machine'] = f'{platform.machine()}, {os.cpu_count()} cores'
  found['versions'] = {'python': platform.python_version()} | {
    name: importlib.metadata.version(name) for name in LIBRARIES
  }
  options.output.parent.mkdir(exist_ok=True)
  jsonl.write_json(options.output, found)
  print(json.dumps(found, indent=2))
  return 1 if found['exceptions'] else 0


if __name__ == '__main__':
  sys.exit(main())
