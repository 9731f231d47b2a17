"""`train.checkpoint_minutes`: a save whenever the last one is too old."""

import types

import pytest

from lrm_jax import clock, metrics, train
from lrm_jax.compilation import CompileWatch
from lrm_jax.rewards.pool import Grader
from tests import rounds_test

# Seconds of each step, by hand.
STEP = 40


@pytest.fixture(scope='module')
def experiment():
  with Grader() as grader:
    yield rounds_test.build(grader, train__rollouts_every=0)


class Saves:
  """Checkpoints that keep the numbers of their steps alone."""

  def __init__(self):
    self.steps = []

  def save(self, step, state, host, metrics):
    self.steps.append(step)

  def check(self):
    pass


@pytest.fixture
def saved(experiment, tmp_path, monkeypatch):
  """Steps at whose end a run saves; a clock says that each takes `STEP`."""
  now = [1e9]
  stats = dict.fromkeys(
    ('reward', 'accuracy', 'response_tokens', 'kept_groups'), 0.0
  )
  config = experiment.config

  def take_step(built, workdir, step):
    now[0] += STEP
    built.state = types.SimpleNamespace(step=step)
    return types.SimpleNamespace(stats=stats), {}

  monkeypatch.setattr(train, 'take_step', take_step)
  monkeypatch.setattr(train, 'timed', lambda *_: {})
  monkeypatch.setattr(train.updating, 'compile_update', lambda _: None)
  monkeypatch.setattr(clock, 'now', lambda: now[0])
  monkeypatch.setattr(metrics, 'open_writer', lambda *_: metrics.NoWriter())
  state = experiment.state

  def run(steps, minutes, every):
    with config.unlocked():
      config.train.steps = steps
      config.train.checkpoint_minutes = minutes
      config.train.checkpoint_every = every
    saves = Saves()
    train.train(experiment, tmp_path, saves, CompileWatch())
    return saves.steps

  yield run
  experiment.state = state


@pytest.mark.parametrize(
  ('steps', 'minutes', 'every', 'expected'),
  [
    # 40 s, 80 s: late. Again 40 s, 80 s since; and the last.
    (7, 1.0, 100, [2, 4, 6, 7]),
    # Two steps are 80 s: that is late too.
    (5, 80 / 60, 100, [2, 4, 5]),
    # A regular save counts: 40 s since step 3 at step 4, 80 s at step 5.
    (8, 1.0, 3, [2, 3, 5, 6, 8]),
    # Each step is late.
    (3, 0.5, 100, [1, 2, 3]),
    # Never, as it is by default.
    (5, 0.0, 100, [5]),
    (5, 100.0, 100, [5]),
  ],
)
def test_a_late_save_comes_after_the_step(
  steps, minutes, every, expected, saved
):
  assert saved(steps, minutes, every) == expected


def test_a_start_counts_from_its_own_beginning(saved):
  """What went by since the last save of an earlier one lost no step."""
  assert saved(1, 0.9, 100) == [1]
  assert saved(4, 0.9, 100) == [3, 4]
