"""Parts in the memory of the host: where they are, and that no number changes.

python -m tests.offloading_test     on several devices, as JSON
"""

import functools
import json
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from lrm_jax import (
  compilation,
  configuration,
  experiment,
  jsonl,
  offloading,
  optim,
  packing,
  policy,
  resuming,
  sharding,
  train,
  train_step,
)
from lrm_jax import mesh as mesh_lib
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.models import transformer
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.planning import memory
from lrm_jax.rewards.pool import Grader
from tests import bits, eight_devices, methods_test, train_step_test
from tests.train_step_test import MODEL

ROOT = pathlib.Path(__file__).parents[1]
# What the optimizer keeps is divided further than parameters.
MESH = {'data': 2, 'fsdp': 4}
NO_MEMORY = SimpleNamespace(
  device_kind='abacus',
  addressable_memories=lambda: [SimpleNamespace(kind='device')],
)


def load(method='grpo', **changes):
  config = methods_test.load(method)
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


# --- What is refused ---


@pytest.mark.parametrize(
  ('method', 'changes', 'device', 'words'),
  [
    ('grpo', {'train.offload': ('weights',)}, None, ("'weights'", 'optimizer')),
    (
      'grpo',
      {'train.offload': ('reference',), 'lora.rank': 2},
      None,
      ('lora.rank=2', "leave 'reference' out"),
    ),
    (
      'dapo',
      {'train.offload': ('optimizer', 'reference')},
      None,
      ('looks at no reference', "leave 'reference' out"),
    ),
    (
      'grpo',
      {'train.offload': ('optimizer',)},
      NO_MEMORY,
      ('abacus', "'pinned_host'", 'it has device', 'set train.offload=()'),
    ),
  ],
)
def test_parts_that_cannot_be(method, changes, device, words):
  config = load(method, **changes)
  with pytest.raises(UserError) as error:
    offloading.check(config, recipe_lib.build(config), device)
  words = (f'train.offload={config.train.offload}', *words)
  assert all(word in str(error.value) for word in words), error.value


def test_parts_that_can_be():
  for parts in ((), ('optimizer',), ('optimizer', 'reference')):
    config = load(**{'train.offload': parts})
    offloading.check(config, recipe_lib.build(config))
  # Of none, nobody asks what the device has.
  config = load()
  offloading.check(config, recipe_lib.build(config), NO_MEMORY)


def test_a_run_may_go_on_with_other_parts():
  assert 'train.offload' in resuming.mutable_keys(load())


# --- Two updates ---


def start(parameters, offload, mesh):
  """(optimizer, state, reference) before the first update."""
  params = jax.tree.map(jnp.copy, parameters)
  if mesh is not None:
    where = sharding.parameter_shardings(MODEL, mesh)
    params = jax.device_put(params, where)
  config = load()
  parts = policy.divide(
    config, MODEL, params, needs_reference=True, offload=offload
  )
  optimizer = optim.of_run(config)
  state = policy.start_state(optimizer, parts.trained, mesh, offload)
  return optimizer, state, parts.reference


def advance(optimizer, state, reference, mesh):
  """(the state after two updates, the metrics of both)."""
  update = train_step.make_update(
    MODEL,
    train_step_test.make_recipe('grpo'),
    optimizer,
    temperature=1.0,
    chunk=16,
    mesh=mesh,
  )
  rollouts = train_step_test.make_rollouts()
  packed = packing.pack_groups(
    rollouts,
    rollouts.mask.any(-1),
    rows=16,
    row_length=32,
    groups_per_micro_batch=2,
  )
  packed = sharding.put(packed, mesh, sharding.batch_specs(packed))
  targets = train_step.Targets(
    rollouts.sampler_logp,
    (rollouts.mask / 2,),
    rollouts.mask,
    rollouts.stale,
    rollouts.thinking_length,
  )
  numbers = []
  for _ in range(2):
    before = state
    state, metrics = update(before, reference, packed, targets)
    assert all(x.is_deleted() for x in jax.tree.leaves(before.opt_state))
    numbers.append(metrics)
  return state, jax.device_get(numbers)


@functools.cache
def parameters():
  return transformer.init_params(MODEL, jax.random.key(0))


def kinds(tree):
  """Memories of its arrays; counts and steps may be anywhere."""
  return {x.sharding.memory_kind for x in jax.tree.leaves(tree) if x.ndim}


def compare(sizes):
  """Asserts that updates with offloaded parts are those without, bit by bit."""
  mesh = mesh_lib.make(sizes) if sizes else None
  optimizer, state, reference = start(parameters(), (), mesh)
  expected, numbers = advance(optimizer, state, reference, mesh)
  assert kinds(expected) == {'device'}
  _, state, reference = start(parameters(), offloading.PARTS, mesh)
  assert kinds(state.opt_state) == kinds(reference) == {offloading.HOST}
  assert kinds(state.params) == {'device'}
  # Counts are left.
  assert memory.held(state.opt_state) < 64 < memory.offloaded(state.opt_state)
  where = jax.tree.map(lambda x: x.sharding, state.opt_state)
  found, other = advance(optimizer, state, reference, mesh)
  bits.assert_same(jax.device_get(found), jax.device_get(expected))
  bits.assert_same(other, numbers)
  for x, old in zip(
    jax.tree.leaves(found.opt_state), jax.tree.leaves(where), strict=True
  ):
    assert x.sharding.is_equivalent_to(old, x.ndim)
    assert x.sharding.memory_kind == old.memory_kind
  return found


@pytest.mark.slow
def test_updates_on_one_device_and_a_checkpoint(tmp_path):
  found = compare({})
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(2, found, {})
  checkpoints.close()
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  restored = checkpoints.restore_state(2, found)
  # Another start may keep it on the device.
  _, state, _ = start(parameters(), (), None)
  moved = checkpoints.restore_state(2, state)
  checkpoints.close()
  assert kinds(restored.opt_state) == {offloading.HOST}
  assert kinds(moved.opt_state) == kinds(restored.params) == {'device'}
  bits.assert_same(restored, found)
  bits.assert_same(moved, found)


@pytest.mark.long
def test_updates_on_a_mesh():
  done = eight_devices.run('tests.offloading_test')
  assert json.loads(done.stdout) == MESH


# --- A run ---


def do(workdir, steps, offload):
  """The state of a run after so many steps; it is begun or resumed."""
  changes = {'train.steps': steps, 'train.checkpoint_every': 1}
  config = load(**changes, **{'train.offload': offload})
  with Grader() as grader:
    built = experiment.build(config, grader)
    mutable = resuming.mutable_keys(config)
    checkpoints = RunCheckpoints(workdir, keep=1)
    if run_folder.open_run(workdir, config, 'train', mutable):
      resuming.restore(built, checkpoints)
    train.train(built, workdir, checkpoints, compilation.CompileWatch())
    checkpoints.close()
  expected = {offloading.HOST if 'optimizer' in offload else 'device'}
  assert kinds(built.state.opt_state) == expected
  assert int(built.state.step) == steps
  return jax.device_get(built.state)


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_parts(tmp_path):
  parts = ('optimizer', 'reference')
  expected = do(tmp_path / 'none', 3, ())
  bits.assert_same(do(tmp_path / 'some', 3, parts), expected)
  rows = jsonl.read_rows(tmp_path / 'some' / 'metrics.jsonl')
  counts = [row['compilations'] for row in rows]
  assert counts[1] == counts[2] > 0, 'an update changed where something lies'
  for offload in (parts, ('optimizer',), ()):
    found = do(tmp_path / 'moved', 3 - len(offload), offload)
  bits.assert_same(found, expected)


def test_the_config_names_every_part():
  config = configuration.load(
    ROOT / 'configs' / 'default.py',
    ['config.train.offload=optimizer,reference'],
  )
  assert config.train.offload == offloading.PARTS


if __name__ == '__main__':
  compare(MESH)
  print(json.dumps(MESH))
