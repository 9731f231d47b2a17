"""Curricula in a run: what they draw, and what they are told."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import choosing, compilation, experiment, gathering, programs
from lrm_jax import rounds as rounds_lib
from lrm_jax.data import pipeline
from lrm_jax.errors import UserError
from lrm_jax.models import transformer
from lrm_jax.objectives import curricula, learned_curricula
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import Memory, Problem
from tests import methods_test
from tests.models import tiny
from tests.objectives import reference


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def problems(*levels, each=1):
  return [
    Problem(f'p{i}-{j}', 'question', '1', level=level, domain=f'd{level % 2}')
    for j in range(each)
    for i, level in enumerate(levels)
  ]


def no_features(problems):
  raise ValueError(f'nobody asked for {len(problems)} features')


def drawn(curriculum, stream, memory, count, step=1, features=no_features):
  return curriculum.draw(stream, memory, count, step=step, features=features)


def levels_of(some):
  return collections.Counter(problem.level for problem in some)


# --- The stream ---


def test_a_chance_of_the_moment():
  """Other draws of the stream are what they would be without."""
  data = problems(1, 2, 3, 4)
  stream = pipeline.ProblemStream(data, seed=0)
  plain = pipeline.ProblemStream(data, seed=0)
  stream.take(3), plain.take(3)
  before = stream.get_state()
  easy = stream.take(4, lambda problem: float(problem.level < 3))
  assert set(levels_of(easy)) == {1, 2}
  stream.set_state(before)
  assert stream.take(9) == plain.take(9)


def test_a_problem_that_returned_is_drawn_by_the_same_number():
  data = problems(*[1] * 50)
  stream = pipeline.ProblemStream(data, seed=0)
  before = stream.get_state()
  half = stream.take(10, lambda problem: 0.5)
  stream.set_state(before)
  # Whoever is taken with a chance of 0.5 is taken with 0.8, too.
  some = stream.take(30, lambda problem: 0.8)
  assert {p.id for p in half} <= {p.id for p in some}


# --- Levels ---


def schedule(**keys):
  return functools.partial(
    curricula.levels, **{'first': 2, 'last': 4, 'steps': 2} | keys
  )


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (problems(0, 0), 'levels: the training problems state no level; give data'),
    (problems(3, 4), 'below every level of the training problems, which begin'),
  ],
)
def test_levels_that_the_data_does_not_have(data, message):
  with pytest.raises(UserError, match=message):
    choosing.Levels(schedule(), data)


def test_levels_are_drawn_by_the_step():
  data = problems(2, 3, 4, 5, each=100)
  curriculum = choosing.Levels(schedule(), data)
  stream, memory = pipeline.ProblemStream(data, seed=0), MemoryStore({})
  found = {}
  for step in (1, 2, 3):
    some = drawn(curriculum, stream, memory, 60, step)
    found[step] = levels_of(some)
    told = curriculum.verified(memory, some, None, None)
    assert told['curriculum_hardest_level'] == step + 1
    mean = sum(k * v for k, v in found[step].items()) / 60
    assert told['curriculum_level'] == pytest.approx(mean)
  assert [set(levels) for levels in found.values()] == [
    {2},
    {2, 3},
    {2, 3, 4},
  ]


def test_levels_that_are_between_count_for_the_largest_weight():
  """No level has weight 1 in step 1: nothing is passed over for that."""
  data = problems(2, each=10)
  curriculum = choosing.Levels(schedule(first=1.5), data)
  stream = pipeline.ProblemStream(data, seed=0)
  drawn(curriculum, stream, MemoryStore({}), 10)
  assert stream.get_state()['position'] == 10


# --- DUMP ---


def dump(data, **keys):
  part = functools.partial(
    learned_curricula.dump,
    **{'by': 'level', 'window': 4, 'temperature': 0.1} | keys,
  )
  curriculum = choosing.Dump(part, data)
  return curriculum, MemoryStore(curriculum.start_memory())


def test_dump_draws_distributions_alike_at_first():
  data = problems(*[1] * 9, 2, each=40)
  curriculum, memory = dump(data)
  some = drawn(curriculum, pipeline.ProblemStream(data, seed=0), memory, 60)
  # Nine in ten are of level 1, but half of the draws are of level 2.
  assert levels_of(some)[2] == pytest.approx(30, abs=10)


def test_dump_draws_what_teaches():
  data = problems(1, 2, 3, each=50)
  curriculum, memory = dump(data)
  mask = np.ones((3, 2, 5), np.float32)
  mask[0, :, 3:] = 0
  advantage = np.zeros((3, 2, 5), np.float32)
  # Of level 1: |mean| 1 of the tokens in the mask, whatever stands beyond it.
  advantage[0, :, :3] = [[-1], [1]]
  advantage[0, :, 3:] = 99
  advantage[1] = 0.5
  curriculum.credited(memory, data[:3], mask, advantage)
  window = memory.take([])['dump'].shared['window']
  np.testing.assert_array_equal(window[:, 2:], [[1.0, 1.0], [0.5, 0.5], [0, 0]])
  # N = 6, n = 2 each: 1, 0.5 and 0, plus the same bonus, over 0.1.
  told = curriculum.verified(memory, data[:3], None, None)
  odds = np.exp([0.0, -5.0, -10.0])
  np.testing.assert_allclose(list(told.values()), odds / odds.sum(), rtol=1e-6)
  assert list(told) == [f'curriculum_level_{level}' for level in (1, 2, 3)]
  some = drawn(curriculum, pipeline.ProblemStream(data, seed=0), memory, 40)
  assert levels_of(some)[1] >= 38


def test_dump_learns_nothing_of_what_is_not_trained():
  data = problems(1, 2)
  curriculum, memory = dump(data)
  mask = np.ones((2, 2, 3), np.float32)
  mask[1, 1] = 0
  curriculum.credited(memory, data, mask, np.ones((2, 2, 3)))
  np.testing.assert_array_equal(memory.take([])['dump'].shared['count'], [2, 1])


def test_dump_by_domain():
  data = problems(1, 2, 3)
  curriculum, memory = dump(data, by='domain')
  told = curriculum.verified(memory, data, None, None)
  assert told == {'curriculum_domain_d0': 0.5, 'curriculum_domain_d1': 0.5}


# --- PCL ---


def pcl(width, **keys):
  part = functools.partial(
    learned_curricula.pcl, **{'factor': 3, 'learning_rate': 0.5} | keys
  )
  curriculum = choosing.Pcl(part, width)
  return curriculum, MemoryStore(curriculum.start_memory())


def by_level(some):
  """A feature that says it all."""
  return np.array([[p.level - 2] for p in some], np.float32)


def test_pcl_looks_at_more_and_keeps_the_nearest():
  data = problems(1, 2, 3, each=4)
  curriculum, memory = pcl(1)
  stream = pipeline.ProblemStream(data, seed=0, shuffle=False)
  some = drawn(curriculum, stream, memory, 4, features=by_level)
  # A head that knows nothing: the first ones, and 8 are passed over.
  assert some == data[:4]
  assert stream.get_state()['position'] == 12
  start = memory.take([])['pcl']
  head = np.array([2.0, 0.0], np.float32)
  memory.put([], {'pcl': Memory(start.shared | {'head': head}, {})})
  # V is 0.12, 0.5 and 0.88 at levels 1, 2 and 3.
  some = drawn(curriculum, stream, memory, 4, features=by_level)
  assert some == [p for p in data if p.level == 2]


def test_pcl_learns_from_every_group_with_a_verdict():
  data = problems(1, 3, 3)
  curriculum, memory = pcl(1)
  stream = pipeline.ProblemStream(data, seed=0, shuffle=False)
  some = drawn(curriculum, stream, memory, 1, features=by_level)
  some += drawn(curriculum, stream, memory, 1, features=lambda p: -by_level(p))
  some = [data[0], data[0]]
  rollouts = reference.rollouts([[1, 1], [1, 0]], length=1, tokens=1)
  judged = np.array([[True, False], [False, False]])
  before = memory.take([])['pcl']
  told = curriculum.verified(memory, some, rollouts, judged)
  assert told == {'curriculum_value': 0.5, 'curriculum_value_error': 0.5}
  # The second group has no verdict; the one response of the first is right.
  want = learned_curricula.pcl_learn(
    before, by_level(data[:1]) * -1, np.array([1.0]), learning_rate=0.5
  )
  for key, leaf in memory.take([])['pcl'].shared.items():
    np.testing.assert_array_equal(leaf, want.shared[key])


def test_pcl_without_any_verdict():
  data = problems(1, 2, 3)
  curriculum, memory = pcl(1)
  stream = pipeline.ProblemStream(data, seed=0, shuffle=False)
  some = drawn(curriculum, stream, memory, 1, features=by_level)
  rollouts = reference.rollouts([[0, 0]], length=1, tokens=1)
  told = curriculum.verified(memory, some, rollouts, np.zeros((1, 2), bool))
  assert np.isnan(told['curriculum_value_error'])
  assert not memory.take([])['pcl'].shared['head'].any()


# --- Hidden states of prompts ---


def test_features_are_those_of_the_prompt_alone():
  """At its last token, whatever is behind it or beside it; of length 1."""
  config = tiny.make_config()
  params = transformer.init_params(config, jax.random.key(0))
  make = programs.make_features(config)
  ids = np.random.default_rng(0).integers(3, config.vocab_size, (3, 7))
  ids, length = ids.astype(np.int32), np.array([7, 4, 1], np.int32)
  found = make(params, ids, length)
  for row, n in enumerate(length):
    one = ids[row : row + 1, :n]
    at = jnp.arange(n, dtype=jnp.int32)[None]
    hidden, _ = transformer.apply(config, params, one, at, jnp.ones_like(at))
    want = np.asarray(hidden[0, -1], np.float64)
    np.testing.assert_allclose(
      found[row], want / np.linalg.norm(want), atol=1e-6
    )
  assert found.shape == (3, config.d_model) and found.dtype == np.float32


@pytest.mark.slow
def test_features_of_a_run_have_one_shape(grader):
  built = experiment.build(methods_test.load('pcl'), grader)
  some = built.stream.take(19)
  watch = compilation.CompileWatch()
  found = rounds_lib.features(built, 48, 1, some)
  count = watch.count
  assert found.shape == (19, built.model.d_model)
  # Eight rows at a time: each is what it is alone.
  np.testing.assert_allclose(
    rounds_lib.features(built, 48, 1, some[17:]), found[17:], atol=1e-6
  )
  rounds_lib.features(built, 48, 1, some[:8])
  assert watch.count == count


@pytest.mark.slow
def test_rounds_ahead_draw_what_rounds_would(grader):
  """Problems of a round that is let go are looked at anew."""
  batches = []
  for ahead in (0, 1):
    config = methods_test.load('pcl')
    with config.unlocked():
      config.train.rounds_ahead = ahead
      config.train.max_rounds = 2
    built = experiment.build(config, grader)
    batches.append([gathering.gather(built, step) for step in (1, 2, 3)])
    head = built.memory.take([])['pcl'].shared['head']
    batches[-1].append(head)
  plain, begun = batches
  for one, other in zip(plain[:-1], begun[:-1], strict=True):
    assert one.problems == other.problems
  np.testing.assert_array_equal(plain[-1], begun[-1])
  assert plain[-1].any()


# --- What costs nothing where it is not used ---


def test_other_curricula_remember_and_compute_nothing(grader):
  built = experiment.build(methods_test.load('grpo'), grader)
  assert type(built.curriculum) is choosing.Curriculum
  assert built.memory.get_state()[0] == {}
  fresh = experiment.build(methods_test.load('grpo'), grader)
  found = rounds_lib.draw(built, 6, 48, 1)
  assert found == fresh.stream.take(6)
  assert built.programs.features._cache_size() == 0
