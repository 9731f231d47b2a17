"""Tasks of reasoning-gym as problems: what is promised of them."""

import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from lrm_jax.data import fingerprints, gym, gym_entries, sources
from lrm_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
needs_gym = pytest.mark.skipif(
  importlib.util.find_spec('reasoning_gym') is None,
  reason="reasoning-gym is not installed: pip install 'lrm_jax[gym]'",
)
# Of questions and answers, made by version 0.1.25 of the package.
PINNED = {
  'gym:chain_sum:train': (
    'cd8fdeee3e3c4c4d6be82c2ab5ed897b2e3b16860e87ae7582de56d1fb016661'
  ),
  'gym:gcd+countdown:heldout:1-2': (
    'cc908282fa65470fce7e690689db0b3d1f1ff9b35f7e3ded2009480a724c457c'
  ),
}
_PRINT = """
import hashlib, json, sys
from lrm_jax.data import sources
problems = sources.load_problems(sys.argv[1])
rows = [[p.id, p.question, p.answer, p.task] for p in
        (problems[i] for i in range(20))]
print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())
"""


def digest(spec, count=20):
  problems = sources.load_problems(spec)
  first = [problems[index] for index in range(count)]
  rows = [[p.id, p.question, p.answer, p.task] for p in first]
  return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@needs_gym
def test_fields_of_a_problem():
  problem = sources.load_problems('gym:chain_sum:train:2')[7]
  assert problem.id == 'gym-chain_sum-train-2-000007'
  assert problem.question.startswith('State the final answer to the following')
  assert int(problem.answer) == eval_sum(problem.question)
  assert (problem.level, problem.domain) == (2, 'chain_sum')
  assert problem.gold.text == problem.task
  told = json.loads(problem.task)
  assert (told['task'], told['level'], told['keys']) == ('chain_sum', 2, {})
  made, entry = gym_entries.recall(problem.task)
  assert entry['question'] == problem.question
  assert made.score_answer(problem.answer, entry) == 1


def eval_sum(question):
  """By hand: the terms of `... problem: 4 + 3 - 2 =`."""
  terms = question.rpartition(':')[2].replace('=', '').replace('- ', '-')
  return sum(int(term) for term in terms.replace('+ ', '').split())


@needs_gym
def test_problems_that_no_answer_is_known_of():
  problem = sources.load_problems('gym:rush_hour')[0]
  assert problem.answer == ''
  assert problem.gold.text


@needs_gym
@pytest.mark.parametrize('spec', PINNED)
def test_the_same_problem_for_ever(spec):
  assert digest(spec) == PINNED[spec]


@needs_gym
def test_the_same_problem_in_another_process():
  """Also where Python orders its sets in another way."""
  for spec in ('gym:letter_counting', 'gym:knights_knaves:train:1-2'):
    found = {
      subprocess.run(
        [sys.executable, '-c', _PRINT, spec],
        env=os.environ | {'PYTHONHASHSEED': seed, 'PYTHONPATH': str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
      ).stdout.strip()
      for seed in ('1', '2')
    }
    assert found == {digest(spec)}


@needs_gym
@pytest.mark.parametrize('keys', ['', '?max_terms=2,max_digits=1', '?seed=3'])
def test_no_question_is_in_both_splits(keys):
  """Two terms of one digit have 200 questions, so many of them come again."""
  train, heldout = (
    sources.load_problems(f'gym:chain_sum:{split}{keys}', limit=1500)
    for split in ('train', 'heldout')
  )
  questions = [{problem.question for problem in s} for s in (train, heldout)]
  assert questions[0].isdisjoint(questions[1])
  assert min(map(len, questions)) > 50
  assert len({problem.id for problem in (*train, *heldout)}) == 3000


@needs_gym
def test_seeds_and_keys_make_other_problems():
  plain, seeded, keyed = (
    sources.load_problems(f'gym:chain_sum{keys}', limit=50)
    for keys in ('', '?seed=1', '?min_terms=5,max_terms=6')
  )
  # Sums of two small numbers come again by chance.
  assert len({p.question for p in (*plain, *seeded)}) > 90
  assert all(p.question.count(' ') >= 16 for p in keyed)
  assert {p.id for p in plain}.isdisjoint(p.id for p in (*seeded, *keyed))


@needs_gym
def test_several_tasks_and_levels_take_turns():
  problems = sources.load_problems('gym:chain_sum+gcd:test:1-2')
  assert [(p.domain, p.level) for p in (problems[i] for i in range(5))] == [
    ('chain_sum', 1),
    ('gcd', 1),
    ('chain_sum', 2),
    ('gcd', 2),
    ('chain_sum', 1),
  ]
  # As many of each are looked at when a run starts.
  assert problems.examined == 100
  assert problems.first(1000) == 100
  assert problems.first(8) == 8


@needs_gym
def test_sizes_and_names():
  assert len(sources.load_problems('gym:gcd:train')) == 100_000
  heldout = sources.load_problems('gym:gcd', split='heldout')
  assert len(heldout) == 4096
  assert heldout.is_generated
  assert heldout[-1].id == 'gym-gcd-heldout-0-004095'
  assert heldout[3] == sources.load_problems('gym:gcd:test')[3]


@needs_gym
def test_a_fingerprint_reads_few_of_them_and_tells_tasks_apart():
  found = [
    fingerprints.of_problems(sources.load_problems(spec))
    for spec in ('gym:gcd', 'gym:lcm', 'gym:gcd?seed=1', 'gym:gcd')
  ]
  assert len(set(found)) == 3
  assert found[0] == found[3]


@needs_gym
@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('gym:', r'expected gym:TASK\['),
    ('gym:gcd:train:1:2', r'expected gym:TASK\['),
    ('gym:no_such', "no task 'no_such'; it has ab, "),
    ('gym:gcd+no_such', "no task 'no_such'"),
    ('gym:gcd:dev', "no split 'dev'; it has train, heldout"),
    ('gym:gcd:train:0', "levels '0'; expected one level or a range"),
    ('gym:gcd:train:3-2', "levels '3-2'; expected one level"),
    ('gym:gcd:train:99', 'gcd: no level 99; it has 1 to '),
    ('gym:gsm_symbolic:train:1', 'no level 1; it has none; drop it'),
    ('gym:gcd?terms=2', "gcd: no key 'terms'; it has .*max_numbers"),
    ('gym:gcd?size=2', "gcd: no key 'size'"),
    ('gym:gcd?seed=-1', 'seed is -1; expected 0 to 1000'),
    ('gym:gcd?seed', "'seed'; expected KEY=VALUE, each key once"),
    ('gym:gcd?seed=1,seed=2', 'each key once'),
    ('gym:gcd?seed=[1]', r"'seed=\[1\]'; expected a number, true, false"),
    ('gym:gcd?max_numbers=0', 'gcd: refuses level 0 and keys '),
    ('gym:gcd?max_numbers=many', 'gcd: refuses level 0 and keys '),
    ('gym:simple_integration', 'cannot be used: it reads an answer by running'),
    ('gym:ransom_note', "cannot be used: .* the order of Python's sets"),
    ('gym:time_intervals', 'cannot be used: .* the date of today'),
    ('gym:list_functions', 'cannot be used: .* the random state of the proc'),
    ('gym:futoshiki', 'cannot be used: a problem of it may take minutes'),
    ('gym:composite', r'cannot be used: it is no task; join tasks by \+'),
  ],
)
def test_bad_names(spec, message):
  with pytest.raises(UserError, match=message) as error:
    sources.load_problems(spec)
  assert str(error.value).startswith(f'data set {spec!r}: ')
  assert '\n' not in str(error.value)


@needs_gym
def test_a_task_with_too_few_questions():
  spec = 'gym:chain_sum?min_terms=2,max_terms=2,min_digits=1,max_digits=1'
  sources.load_problems(spec)  # Two hundred of them will do.
  problems = sources.load_problems('gym:largest_island?' + ONE_ISLAND)
  other = sources.load_problems('gym:largest_island:train?' + ONE_ISLAND)
  with pytest.raises(UserError, match='all of them are in the other') as error:
    problems[0], other[0]
  assert 'take another task, or other keys' in str(error.value)


ONE_ISLAND = (
  'min_rows=5,max_rows=5,min_cols=5,max_cols=5,min_num_islands=0,'
  'max_num_islands=0,min_island_size=0,max_island_size=0'
)


@needs_gym
def test_what_is_refused_is_there():
  from reasoning_gym import factory

  assert set(gym_entries.REFUSED) <= set(factory.DATASETS)
  assert len(gym_entries.names()) == 92


def test_without_the_package(monkeypatch):
  monkeypatch.setattr(gym.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError) as error:
    sources.load_problems('gym:gcd')
  assert str(error.value) == (
    "data set 'gym:gcd': reasoning-gym is not installed; "
    "pip install 'lrm_jax[gym]'"
  )


def test_the_package_is_imported_only_when_used():
  code = (
    'import sys; from lrm_jax.data import sources, pipeline; '
    'from lrm_jax.rewards import pool; sys.exit("reasoning_gym" in sys.modules)'
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False)
  assert done.returncode == 0
