"""Every method: its config, its table, twenty steps, and an exact resume."""

import math
import pathlib
import shutil

import jax
import numpy as np
import pytest

from lrm_jax import (
  compilation,
  configuration,
  experiment,
  jsonl,
  programs,
  resuming,
  train,
)
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.objectives import recipe as recipes
from lrm_jax.objectives import tables
from lrm_jax.rewards.pool import Grader
from tests import bits, methods_table
from tests.objectives import reference
from tests.objectives.reference import shaping_capped

ROOT = pathlib.Path(__file__).parents[1]
METHODS = methods_table.methods()
# With every change; the others differ from these by a formula, which has tests
# of its own, and have the marker `long`. Each kind of part that remembers,
# observes, revises, draws problems by lot, sets targets, looks ahead, or gives
# credit by entropies or in two parts, demonstrates, or trains on
# batches of older parameters.
EVERY_TIME = (
  *('adaptive_penalty', 'hapo', 'laser_d', 'dot', 'lc_r1', 'tldr', 'l1'),
  *('da_dler', 'siri', 'drpo', 'gtpo', 'copo', 'hpt', 'levels', 'dump'),
  *('pcl', 'gvm', 'tis'),
)
# Small enough for a test, and long enough for every memory to change.
SIZES = {
  'data.train': 'chain_arithmetic:train:2-3',
  'data.eval': 'chain_arithmetic:heldout:2-3',
  'train.steps': 20,
  'train.token_budget': 0,
  'train.problems': 4,
  'train.samples': 4,
  'train.max_tokens': 48,
  'train.rows': 8,
  'train.row_length': 96,
  'train.groups': 4,
  'train.checkpoint_every': 10,
  'train.rollouts_every': 0,
  'sampler.slots': 16,
  'eval.problems': 4,
  'sentinels.every': 0,  # one program less for every method
}
OTHER_SIZES = {
  **dict.fromkeys(
    ('tis', 'sequence_tis', 'icepop', 'mis'), {'sentinels.every': 10}
  ),
  'da_dler': {'objective.shaping.difficulty_truncation.easy_cap': 24},
  # Four samples have no outlier of three deviations.
  'dot': {'objective.revision.deviations': 0.5, 'objective.revision.margin': 2},
  'dr_grpo': {'objective.aggregate.length': 48},
  # Two levels, the harder one from the eleventh step on.
  'levels': {
    'objective.curriculum.last': 3.0,
    'objective.curriculum.steps': 10,
  },
  'gvm': {'objective.curriculum.probes': 2, 'objective.curriculum.samples': 2},
  'hapo': {'data.train_problems': 12},
  # More than the first capacity of the tables.
  'hapo_linear': {'data.train_problems': 70},
  'laser_d': {'train.monitor_problems': 4},
  'laser_de': {'train.monitor_problems': 4},
  'rmt': {
    'objective.budget.initial': 16,
    'objective.budget.room': 16,
    'objective.target.room': 16,
  },
  'think_prune': {'objective.budget.caps': (48, 40, 32)},
}
BUDGETS = {
  'constant': {'objective.budget.cap': 48},
  'siri': {'objective.budget.low': 24, 'objective.budget.high': 48},
}


def load(name):
  config = configuration.load(ROOT / 'configs' / 'tiny' / f'{name}.py')
  changes = dict(SIZES)
  for budget, keys in BUDGETS.items():
    if config.objective.budget.name.startswith(budget):
      changes |= keys
  if name in OTHER_SIZES:
    changes |= OTHER_SIZES[name]
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def advance(built, workdir):
  """Trains to the end; returns the metrics of every step."""
  checkpoints = RunCheckpoints(workdir, keep=5)
  watch = compilation.CompileWatch()
  train.train(built, workdir, checkpoints, watch)
  checkpoints.close()
  return jsonl.read_rows(workdir / 'metrics.jsonl')


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long)
    for name in METHODS
  ],
)
def test_twenty_steps_and_an_exact_resume(name, grader, tmp_path):
  config = load(name)
  whole = experiment.build(config, grader)
  start = jax.device_get(whole.state.params)
  rows = advance(whole, tmp_path)
  assert [row['step'] for row in rows] == list(range(1, 21))
  for leaf in jax.tree.leaves(whole.state.params):
    assert np.isfinite(leaf).all()
  trained = [row for row in rows if row.get('loss') is not None]
  assert trained, 'no step had anything to learn from'
  assert all(math.isfinite(row['grad_norm']) for row in trained)
  with pytest.raises(AssertionError):
    bits.assert_same(jax.device_get(whole.state.params), start)

  shutil.rmtree(tmp_path / 'checkpoints' / '20')
  resumed = experiment.build(config, grader)
  # The same programs, not compiled again.
  resumed.programs = whole.programs
  checkpoints = RunCheckpoints(tmp_path, keep=5)
  resuming.restore(resumed, checkpoints)
  checkpoints.close()
  assert int(resumed.state.step) == 10
  assert 0 < resumed.productive_seconds < whole.productive_seconds
  again = advance(resumed, tmp_path)
  bits.assert_same(resumed.state, whole.state)
  memory, ids = whole.memory.get_state()
  bits.assert_same(resumed.memory.get_state()[0], memory)
  if memory:
    untouched = whole.memory.like(len(ids))
    with pytest.raises(AssertionError):
      bits.assert_same(memory, untouched)
  assert resumed.memory.get_state()[1] == ids
  assert resumed.sampled_tokens == whole.sampled_tokens
  timed = ('seconds', 'per_second', 'mfu', 'goodput', 'compilations')
  for one, other in zip(again, rows, strict=True):
    for key, value in one.items():
      if not any(word in key for word in timed):
        assert value == other[key], (one['step'], key)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['siri', 'da_dler', 'l1', 'think_prune', 'rmt', 'dot', 'hapo']
)
def test_budgets_targets_and_memory_never_compile_again(name, grader, tmp_path):
  """Caps, tiers, targets, counts of problems and records are traced values."""
  config = load(name)
  with config.unlocked():
    config.train.steps = 8
    if name == 'siri':
      config.objective.budget.period = 5  # another cap at every step
    if name == 'think_prune':
      config.objective.budget.lengths = (3, 3, 3)
    if name == 'da_dler':
      config.train.max_rounds = 1
    if name == 'dot':
      # As many problems every time.
      config.objective.oversampling.low = 1.5
      config.objective.oversampling.high = 1.5
  rows = advance(experiment.build(config, grader), tmp_path)
  assert rows[-1]['compilations'] == rows[1]['compilations'] > 0
  if name in ('siri', 'think_prune', 'rmt'):
    assert len({row['cap'] for row in rows}) > 2


@pytest.mark.slow
def test_a_new_number_of_problems_compiles_small_programs_only(
  grader, tmp_path
):
  """Of DOT's over-sampling: neither sampler nor update are among them."""
  rows = advance(experiment.build(load('dot'), grader), tmp_path)
  counts = [row['sampled_groups'] for row in rows]
  assert len(set(counts)) > 1
  # Per number of problems: targets, revision, shaping.
  new = [n for i, n in enumerate(counts) if i > 1 and n not in counts[:i]]
  compiled = rows[-1]['compilations'] - rows[1]['compilations']
  assert compiled <= 3 * len(new)


def test_the_tiers_of_da_dler_are_traced():
  """Which groups are easy, and every cap, are numbers of one program."""
  shape = programs.make_shape(recipes.build(load('da_dler')))
  compilations = compilation.CompileWatch()
  rng = np.random.default_rng(0)
  counts, tiers = [], set()
  for _ in range(5):
    rollouts = reference.rollouts(
      rng.random((4, 4)) < rng.random((4, 1)),
      length=rng.integers(1, 49, (4, 4)),
      cap=rng.integers(30, 49, 4),
      tokens=48,
    )
    reward, _, _ = shape(rollouts, {})
    expected = shaping_capped.difficulty_truncation(rollouts, 24, 0.5, 0.0)
    np.testing.assert_array_equal(reward, expected)
    plain = shaping_capped.truncation(rollouts, 0.0)
    tiers |= set((plain != expected).any(1).tolist())
    counts.append(compilations.count)
  assert tiers == {True, False}
  assert counts[-1] == counts[0] > 0


# --- What there is ---


def test_every_part_is_used_by_a_method():
  """Conventions that no method has are used by a set of `conventions.py`."""
  used = {part: set() for part in tables.PARTS}
  for parts in METHODS.values():
    for part, names in parts.items():
      used[part] |= set(names)
  missing = {
    part: sorted(set(table) - used[part] - ONLY_CONVENTIONS)
    for part, table in tables.PARTS.items()
  }
  assert not {part: names for part, names in missing.items() if names}


# Choices between frameworks, not of a method.
ONLY_CONVENTIONS = {'batch_std', 'leave_one_out_std', 'kl_k1'}


def test_what_only_conventions_use_is_used_there():
  text = (ROOT / 'configs' / 'conventions.py').read_text()
  assert not [
    name
    for name in ONLY_CONVENTIONS
    if f"'{name}'" not in text and f'{name}=' not in text
  ]


def test_every_method_has_the_setting_of_its_paper():
  tiny = set(METHODS)
  paper = {
    path.stem.removesuffix('_r1_1p5b')
    for path in (ROOT / 'configs').glob('*_r1_1p5b.py')
  }
  assert tiny == paper
