"""Checkpoints of a run: what is saved comes back, bit for bit."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lrm_jax import optim
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState
from tests import bits

# With states that are empty, and leaves that are masked out.
OPTIMIZER = optim.make_optimizer(
  ml_collections.ConfigDict(
    {
      'name': 'muon',
      'muon_factor': 4.0,
      'learning_rate': 1e-3,
      'schedule': 'cosine',
      'warmup_steps': 1,
      'final_fraction': 0.1,
      'b1': 0.9,
      'b2': 0.95,
      'weight_decay': 0.1,
      'clip_norm': 1.0,
      'spike_factor': 0.0,
      'spike_reset': False,
    }
  ),
  10,
)


def _state(seed=0, step=0, width=3):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {
    'embedding': draw(5, width),
    'layers': {
      'mlp': {'kernel': draw(2, width, 4).astype(jnp.bfloat16)},
      'norm': {'scale': draw(2, width)},
    },
  }
  opt_state = OPTIMIZER.init(params)
  # No leaf of the optimizer is a plain zero.
  opt_state = jax.tree.map(lambda x: x + jnp.asarray(2, x.dtype), opt_state)
  return TrainState(jnp.int32(step), params, opt_state)


def _restore(workdir, step, like=None):
  checkpoints = RunCheckpoints(workdir, keep=2)
  try:
    state = checkpoints.restore_state(step, _state() if like is None else like)
    return state, checkpoints.restore_host(step)
  finally:
    checkpoints.close()


def _latest_step(workdir):
  checkpoints = RunCheckpoints(workdir, keep=2)
  step = checkpoints.latest_step()
  checkpoints.close()
  return step


def _saved(workdir, *steps, keep=2):
  """The folder with these steps in it; the seed of a step is its number."""
  checkpoints = RunCheckpoints(workdir, keep=keep)
  for step in steps:
    checkpoints.save(step, _state(step, step), {'cursors': [step, 0]})
  checkpoints.close()


def test_what_is_saved_comes_back(tmp_path):
  host = {
    'cursors': [12, 2**40],
    'seconds': 0.1 + 0.2,
    'stream': {'epoch': 3, 'order': [2, 0, 1], 'note': None},
  }
  state = _state(seed=1, step=7)
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  assert checkpoints.latest_step() is None
  checkpoints.save(7, state, host)
  checkpoints.close()
  found, found_host = _restore(tmp_path, 7)
  bits.assert_same(found, state)
  assert found.step == 7
  assert found.step.dtype == jnp.int32
  assert found_host == host


def test_memory_beside_the_state_may_be_empty(tmp_path):
  tree = {'train': _state(2, 1), 'memory': {}}
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, tree, {})
  checkpoints.close()
  like = {'train': _state(), 'memory': {}}
  found, host = _restore(tmp_path, 1, like)
  bits.assert_same(found, tree)
  assert host == {}


def test_both_may_change_as_soon_as_save_returns(tmp_path, monkeypatch):
  """The next step donates the arrays and moves the cursors at once."""
  handed_over = []
  json_save = ocp.args.JsonSave
  monkeypatch.setattr(
    ocp.args,
    'JsonSave',
    lambda item: handed_over.append(item) or json_save(item),
  )
  arrays = {'x': jnp.arange(1_000_000, dtype=jnp.float32)}
  expected = np.arange(1_000_000, dtype=np.float32)
  overwrite = jax.jit(
    lambda tree: jax.tree.map(lambda x: -x - 1, tree), donate_argnums=0
  )
  host = {'cursors': [5]}
  checkpoints = RunCheckpoints(tmp_path, keep=1)
  checkpoints.save(1, arrays, host)
  arrays = overwrite(arrays)
  host['cursors'][0] = 6
  # Orbax turns it into JSON in another thread, at a time of its own.
  assert handed_over == [{'cursors': [5], 'checkpoint': {'previous': None}}]
  checkpoints.close()
  found, found_host = _restore(tmp_path, 1, arrays)
  np.testing.assert_array_equal(found['x'], expected)
  assert found_host == {'cursors': [5]}


def test_the_newest_are_kept(tmp_path):
  _saved(tmp_path, 2, 4, 6, 10, keep=2)
  names = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert names == {'6', '10'}
  assert _latest_step(tmp_path) == 10
  for step in (6, 10):
    found, host = _restore(tmp_path, step)
    bits.assert_same(found, _state(step, step))
    assert host == {'cursors': [step, 0]}


def test_a_step_is_written_once(tmp_path):
  checkpoints = RunCheckpoints(tmp_path, keep=2)
  checkpoints.save(3, _state(3, 3), {'n': 1})
  checkpoints.save(3, _state(4, 3), {'n': 2})
  checkpoints.close()
  found, host = _restore(tmp_path, 3)
  bits.assert_same(found, _state(3, 3))
  assert host == {'n': 1}


def test_unfinished_and_strange_folders_are_no_steps(tmp_path):
  _saved(tmp_path, 2)
  folder = tmp_path / 'checkpoints'
  # What a kill leaves behind: a step under a temporary name.
  unfinished = folder / '4.orbax-checkpoint-tmp-1700000000'
  (unfinished / 'state').mkdir(parents=True)
  (folder / 'notes').mkdir()
  (folder / 'notes.txt').write_text('6')
  checkpoints = RunCheckpoints(tmp_path, keep=2)
  assert checkpoints.latest_step() == 2
  checkpoints.save(4, _state(4, 4), {'cursors': [4, 0]})
  checkpoints.close()
  assert _latest_step(tmp_path) == 4
  found, _ = _restore(tmp_path, 4)
  bits.assert_same(found, _state(4, 4))


@pytest.mark.parametrize(
  ('change', 'difference'),
  [
    (
      lambda params: params | {'embedding': jnp.zeros((5, 4))},
      'params/embedding is (5, 3) there and (5, 4) here',
    ),
    (
      lambda params: {'embedding': params['embedding']},
      'params/layers/mlp/kernel is (2, 3, 4) there and absent here',
    ),
    (
      lambda params: params | {'head': jnp.zeros(3)},
      'params/head is absent there and (3,) here',
    ),
  ],
)
def test_another_model_is_refused_in_one_line(tmp_path, change, difference):
  _saved(tmp_path, 5)
  state = _state()
  like = TrainState(state.step, change(state.params), state.opt_state)
  with pytest.raises(UserError) as info:
    _restore(tmp_path, 5, like)
  assert str(info.value) == (
    f'checkpoint 5 does not fit this model: {difference}; restore the config '
    'it was written with or choose another --workdir'
  )
