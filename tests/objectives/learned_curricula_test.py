"""Curricula that learn from the steps."""

import numpy as np
import pytest

from lrm_jax.errors import UserError
from lrm_jax.objectives import learned_curricula
from lrm_jax.structs import Memory
from tests.objectives.reference import learned_curricula as expected

# --- dump ---


def dump_start(count, window=3, by='level', temperature=0.1):
  return learned_curricula.dump_start(
    count, by=by, window=window, temperature=temperature
  )


def test_dump_before_anything_is_recorded():
  found = learned_curricula.dump(dump_start(4), by='level')
  np.testing.assert_array_equal(found, [0.25] * 4)


def test_dump():
  memory = Memory(
    shared={
      'window': np.array([[np.nan, 0.5, 1.0], [0.2, 0.2, 0.2]], np.float32),
      'count': np.array([2, 5], np.int32),
    },
    problem={},
  )
  # N = 7 and 2 ln 8 = 4.15888: 0.75 + sqrt(4.15888 / 3) = 1.92741 and
  # 0.2 + sqrt(4.15888 / 6) = 1.03256; their distance is 0.89485.
  found = learned_curricula.dump(memory, by='level', temperature=1.0)
  share = 1 / (1 + np.exp(-0.89485))
  np.testing.assert_allclose(found, [share, 1 - share], atol=1e-5)
  # At 0.1 the better one takes nearly all: exp(-8.9485) is left.
  found = learned_curricula.dump(memory, by='level')
  np.testing.assert_allclose(found[1], 1.2993e-4, rtol=1e-3)
  assert found.dtype == np.float64


def test_dump_learns_what_was_recorded_last():
  memory = learned_curricula.dump_learn(
    dump_start(3), np.array([2, 0, 2, 2, 2]), np.array([-1, 0.5, 2, -3, 4])
  )
  nan = np.nan
  np.testing.assert_array_equal(
    memory.shared['window'], [[nan, nan, 0.5], [nan] * 3, [2, 3, 4]]
  )
  np.testing.assert_array_equal(memory.shared['count'], [1, 0, 4])
  same = learned_curricula.dump_learn(memory, np.array([], int), np.array([]))
  for key, values in memory.shared.items():
    np.testing.assert_array_equal(same.shared[key], values)
    assert same.shared[key].dtype == values.dtype


@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_dump_equals_the_loops(temperature):
  rng = np.random.default_rng(0)
  memory, history = dump_start(4, window=5), [[] for _ in range(4)]
  for _ in range(6):
    which = rng.integers(0, 3, 7)  # the last one never occurs
    advantage = rng.normal(size=7).astype(np.float32)
    memory = learned_curricula.dump_learn(memory, which, advantage)
    for d, value in zip(which, advantage, strict=True):
      history[d].append(float(value))
    found = learned_curricula.dump(
      memory, by='level', window=5, temperature=temperature
    )
    want = expected.dump(history, 5, temperature)
    np.testing.assert_allclose(found, want, rtol=1e-9)
    assert found.sum() == pytest.approx(1)


def test_dump_does_not_overflow():
  memory = learned_curricula.dump_learn(
    dump_start(2), np.array([0]), np.array([1e6])
  )
  found = learned_curricula.dump(memory, by='level')
  np.testing.assert_array_equal(found, [1, 0])


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    ({'by': 'size'}, "dump: by = 'size'; give 'level' or 'domain'"),
    ({'window': 0}, 'dump: window = 0 values; give at least 1'),
    ({'temperature': 0.0}, 'dump: temperature = 0.0; give more than 0'),
    (
      {'count': 1, 'by': 'domain'},
      'dump: the training problems have 1 domain; it chooses between several: '
      'give data that states them, or another curriculum',
    ),
  ],
)
def test_dump_refused(keys, message):
  with pytest.raises(UserError) as error:
    dump_start(**{'count': 2} | keys)
  assert str(error.value) == message


# --- pcl ---

KEYS = {'factor': 4, 'learning_rate': 0.1}


@pytest.mark.parametrize(
  ('value', 'count', 'places'),
  [
    ([0.9, 0.4, 0.55, 0.1], 2, [1, 2]),
    ([0.75, 0.25, 0.75, 0.25], 2, [0, 1]),  # equal: the earlier ones
    ([0.75, 0.5, 0.25], 2, [0, 1]),
    ([0.5] * 5, 2, [0, 1]),
    ([0.0, 1.0], 2, [0, 1]),
    ([0.5], 0, []),
  ],
)
def test_pcl(value, count, places):
  found = learned_curricula.pcl(np.array(value), count, **KEYS)
  np.testing.assert_array_equal(found, places)
  assert list(found) == expected.pcl(value, count)


def test_pcl_equals_the_loops():
  value = np.random.default_rng(0).integers(0, 21, 600) / 20  # many equal
  for count in (1, 17, 300, 600):
    found = learned_curricula.pcl(value, count, **KEYS)
    assert list(found) == expected.pcl(value, count)


def test_the_head_says_one_half_at_the_start():
  start = learned_curricula.pcl_start(3, **KEYS)
  value = learned_curricula.pcl_value(
    start, np.random.default_rng(0).normal(size=(4, 3))
  )
  np.testing.assert_array_equal(value, [0.5] * 4)


def test_the_value_of_a_head():
  start = learned_curricula.pcl_start(2, **KEYS)
  head = np.array([1.0, -2.0, 0.5], np.float32)
  memory = Memory(shared=start.shared | {'head': head}, problem={})
  # Logits 1 - 2 + 0.5 = -0.5, 0.5, and 1000 + 0.5.
  found = learned_curricula.pcl_value(
    memory, np.array([[1, 1], [0, 0], [1000, 0]])
  )
  np.testing.assert_allclose(found, [0.3775407, 0.6224593, 1.0], atol=1e-7)


def test_the_first_step_of_adam():
  """As long as the learning rate in every coordinate, against the slope."""
  start = learned_curricula.pcl_start(2, **KEYS)
  # V is 1/2: the slope of the logit is 2 (1/2 - 1) / 4 = -1/4.
  learned = learned_curricula.pcl_learn(
    start, np.array([[2.0, -1.0]]), np.array([1.0]), learning_rate=0.1
  )
  np.testing.assert_allclose(
    learned.shared['head'], [0.1, -0.1, 0.1], rtol=1e-6
  )
  np.testing.assert_allclose(
    learned.shared['first'], [-0.05, 0.025, -0.025], rtol=1e-6
  )
  assert learned.shared['updates'] == 1
  assert not start.shared['head'].any()  # not changed


def test_learning_equals_the_loops():
  rng = np.random.default_rng(0)
  memory, batches = learned_curricula.pcl_start(5, **KEYS), []
  for size in (4, 1, 6, 3):
    batches.append((rng.normal(size=(size, 5)), rng.random(size)))
    memory = learned_curricula.pcl_learn(
      memory, *batches[-1], learning_rate=0.1
    )
    want = expected.pcl_learn([0.0] * 6, batches, 0.1)
    np.testing.assert_allclose(memory.shared['head'], want, rtol=2e-5)
    probe = rng.normal(size=(3, 5))
    np.testing.assert_allclose(
      learned_curricula.pcl_value(memory, probe),
      expected.pcl_value(memory.shared['head'].tolist(), probe),
      rtol=1e-9,
    )
  assert memory.shared['head'].dtype == np.float32


def test_the_gradient_is_that_of_the_squared_error():
  rng = np.random.default_rng(1)
  x, rate = rng.normal(size=(6, 3)), rng.random(6)
  start = learned_curricula.pcl_start(3, **KEYS)
  head = rng.normal(size=4)
  at = lambda h: Memory(shared=start.shared | {'head': h}, problem={})
  learned = learned_curricula.pcl_learn(at(head), x, rate, learning_rate=0.1)
  error = lambda h: np.sum((learned_curricula.pcl_value(at(h), x) - rate) ** 2)
  slopes = [
    (error(head + d) - error(head - d)) / 2e-6 for d in 1e-6 * np.eye(4)
  ]
  # The first moment starts at 0: it is a tenth of the gradient.
  np.testing.assert_allclose(learned.shared['first'] * 10, slopes, rtol=1e-5)


def test_it_learns_which_direction_is_solved():
  rng = np.random.default_rng(0)
  memory = learned_curricula.pcl_start(4, factor=1, learning_rate=0.1)
  for _ in range(200):
    x = rng.normal(size=(16, 4))
    rate = (x[:, 1] > 0).astype(float)
    memory = learned_curricula.pcl_learn(memory, x, rate, learning_rate=0.1)
  value = learned_curricula.pcl_value(
    memory, np.array([[0, 3, 0, 0], [0, -3, 0, 0]])
  )
  assert value[0] > 0.9 and value[1] < 0.1


def test_nothing_to_learn_from():
  start = learned_curricula.pcl_start(2, **KEYS)
  nothing = np.zeros((0, 2)), np.zeros(0)
  assert (
    learned_curricula.pcl_learn(start, *nothing, learning_rate=0.1) is start
  )


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    ({'factor': 0}, 'pcl: factor = 0; give at least 1'),
    ({'learning_rate': 0.0}, 'pcl: learning_rate = 0.0; give more than 0'),
  ],
)
def test_pcl_refused(keys, message):
  with pytest.raises(UserError, match=message):
    learned_curricula.pcl_start(2, **KEYS | keys)
