"""The fuzzing of `experiments/faults`, in small and always the same."""

import importlib
import os
import pathlib
import random
import time

import pytest

from lrm_jax.rewards import math_answer, pool

_ROOT = pathlib.Path(__file__).parents[2]
_DATA = pathlib.Path(
  os.environ.get('LRM_DATA_DIR', _ROOT.parent / 'shared' / 'data')
)


@pytest.fixture(scope='module')
def modules():
  """`fuzz`, `bombs` and `golds`, which find each other in their folder."""
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(_ROOT / 'experiments' / 'faults')
    names = ('fuzz', 'bombs', 'golds')
    yield {name: importlib.import_module(name) for name in names}


def test_three_thousand_texts_raise_nothing(modules):
  fuzz, bombs = modules['fuzz'], modules['bombs']
  rng = random.Random(0)
  pairs = [
    *fuzz.hypothesis_pairs(500, seed=0),
    *fuzz.mutated_pairs(1000, bombs.SPELLINGS, rng),
    *fuzz.mutated_responses(1500, bombs.SPELLINGS, rng),
  ]
  assert len(set(pairs)) > 2500
  begin = time.process_time()
  verdicts = [math_answer.grade_exact(*pair) for pair in pairs]
  assert time.process_time() - begin < 5
  # Otherwise the texts would be all alike.
  kinds = {None if v is None else (v.correct, v.status) for v in verdicts}
  wanted = {None, (True, 'ok'), (False, 'ok'), (False, 'no_answer')}
  assert kinds >= wanted
  # What algebra has to decide, in real processes; few, as each takes long.
  undecided = [p for p, v in zip(pairs, verdicts, strict=True) if v is None]
  chosen = undecided[:: len(undecided) // 60]
  with pool.Grader(2, timeout=30.0) as grader:
    for pair, verdict in zip(chosen, grader.grade(chosen), strict=True):
      assert verdict.status == 'ok', pair
      assert verdict.extracted, pair


def test_bombs_and_megabytes_are_never_right_before_algebra(modules):
  bombs = modules['bombs']
  texts = [rf'</think>\boxed{{{bomb}}}' for bomb in bombs.BOMBS]
  for text in texts:
    verdict = math_answer.grade_exact(text, '1')
    assert verdict is None or not verdict.correct, text[:80]


def test_inputs_are_the_same_for_the_same_seed(modules):
  fuzz, bombs = modules['fuzz'], modules['bombs']
  make = lambda seed: fuzz.make_inputs(400, list(bombs.SPELLINGS), seed)
  assert make(3) == make(3) != make(4)
  assert len(make(3)) == 400


def test_the_second_opinion(modules):
  is_equal = modules['golds'].is_equal
  assert is_equal('0.50', r'\frac{1}{2}') and is_equal('x = 5', '5')
  assert is_equal(r'50^\circ', '50') and is_equal(r'\sqrt{8}', r'2\sqrt{2}')
  assert not is_equal('(1,2)', '(2,1)') and not is_equal('3', '4')
  assert not is_equal('east', 'west')


def test_golds_of_other_questions_are_wrong(modules):
  path = _DATA / 'math500.jsonl'
  if not path.exists():
    pytest.skip(f'{path} is absent; set LRM_DATA_DIR')
  golds = modules['golds']
  answers = golds.read(_DATA)['math500'][::3]
  with pool.Grader(2, timeout=30.0) as grader:
    found = golds.check({'math500': answers}, grader, seed=0)
  assert found['refused_as_themselves'] == []
  assert found['pairs_of_different_spelling'] > 150
  assert all(pair['equal_by_value'] for pair in found['accepted_pairs'])
