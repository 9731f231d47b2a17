"""Losses of `lrm sft`: by hand, against NumPy, in a step and on a mesh."""

import fractions
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny_lrm
from lrm_jax import jsonl, policy, sft, sft_losses, sft_step, sharding
from lrm_jax import mesh as mesh_lib
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState
from tests import bits, eight_devices, sft_test
from tests.models import tiny
from tests.sft_test import PAIRS, pack_pairs

ROOT = pathlib.Path(__file__).parents[1]
MESHES = ({'data': 8}, {'fsdp': 2, 'context': 2, 'tensor': 2})
SGD = optax.sgd(1.0)


def reference(logp, entropy, mask, fraction, coefficient):
  """(loss, indices in the order of rows that are chosen), in float64."""
  logp, entropy = (np.float64(x).ravel() for x in (logp, entropy))
  kept = [i for i, m in enumerate(np.ravel(mask)) if m]
  rank = sorted(kept, key=lambda i: (logp[i] + coefficient * entropy[i], i))
  number = math.floor(fractions.Fraction(str(fraction)) * len(kept))
  chosen = sorted(rank[: max(number, 1)])
  return -np.mean(logp[chosen]), chosen


def draw(seed=0, shape=(6, 40)):
  rng = np.random.default_rng(seed)
  logp = -rng.exponential(size=shape).astype(np.float32)
  entropy = rng.uniform(0, 3, shape).astype(np.float32)
  return logp, entropy, np.float32(rng.uniform(size=shape) < 0.6)


def test_by_hand():
  """Five tokens, the fourth of them a prompt's.

  D = 2 - 0.5 * 3 = 0.5; 1 - 0.5 * 0.4 = 0.8; 0.2 - 0 = 0.2; 0.9 - 0.5 * 2 =
  -0.1. Half of four tokens: those that cost 2 and 1. Their mean is 1.5, that of
  all is 4.1 / 4. The token that costs 0.9 is left out before the one of 0.2.
  """
  logp = -jnp.array([[2.0, 1.0, 0.2, 9.0, 0.9]])
  entropy = jnp.array([[3.0, 0.4, 0.0, 0.0, 2.0]])
  mask = jnp.array([[1.0, 1.0, 1.0, 0.0, 1.0]])
  for fraction, expected in (
    (0.5, 1.5),
    (0.75, 3.2 / 3),
    (0.74, 1.5),
    (1.0, 4.1 / 4),
    (0.1, 1.0),
  ):
    loss, numbers = sft_losses.entropy_sft(
      logp, entropy, mask, fraction=fraction, coefficient=0.5
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert float(numbers['cross_entropy']) == pytest.approx(4.1 / 4, rel=1e-6)


@pytest.mark.parametrize('fraction', [0.8, 0.29, 0.003])
@pytest.mark.parametrize('coefficient', [0.0, 0.8, 2.0])
def test_against_numpy(fraction, coefficient):
  arrays = draw()
  keywords = {'fraction': fraction, 'coefficient': coefficient}
  loss, _ = jax.jit(lambda *x: sft_losses.entropy_sft(*x, **keywords))(*arrays)
  expected, _ = reference(*arrays, **keywords)
  assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_only_chosen_tokens_have_a_gradient():
  """-1 / k each, whatever their cost; and the entropy has none."""
  logp, entropy, mask = draw()
  slopes = jax.grad(
    lambda *x: sft_losses.entropy_sft(*x, mask)[0], argnums=(0, 1)
  )(logp, entropy)
  _, chosen = reference(logp, entropy, mask, 0.8, 0.8)
  assert 0 < len(chosen) < mask.sum() < mask.size
  expected = np.zeros(mask.size)
  expected[chosen] = -1 / len(chosen)
  np.testing.assert_allclose(np.ravel(slopes[0]), expected, rtol=1e-6, atol=0)
  assert not np.any(slopes[1])


@pytest.mark.parametrize('fraction', [0.8, 0.29, 1 / 3, 1.0, 1, 0.0001])
def test_count_is_exact(fraction):
  """100 * 0.29 is below 29 in float64, and 2^24 + 1 is not a float32."""
  ratio = fractions.Fraction(str(fraction)).limit_denominator(10_000)
  for n in (1, 2, 3, 5, 10, 99, 100, 2**24 + 1, 2**31 - 1):
    expected = max(1, math.floor(ratio * n))
    assert int(sft_losses.count(jnp.int32(n), fraction)) == expected, n


def test_ties_are_taken_in_the_order_of_rows():
  mask = np.float32([[0, 1, 1, 1], [1, 0, 1, 0]])
  for score in (np.zeros((2, 4)), np.full((2, 4), -0.0), np.full((2, 4), 7.0)):
    score[0, 2] *= -1 if score[0, 2] == 0 else 1  # Zeros of both signs.
    chosen = sft_losses.choose(np.float32(score), mask, 0.6)
    np.testing.assert_array_equal(chosen, [[0, 1, 1, 1], [0, 0, 0, 0]])


def test_what_is_no_number_is_not_left_out():
  """Nor is what lies outside the mask looked at."""
  score = np.float32([3, np.nan, np.inf, 5, -np.inf, 4])
  mask = np.float32([0, 1, 0, 1, 1, 1])
  chosen = sft_losses.choose(score, mask, 0.5)
  np.testing.assert_array_equal(chosen, [0, 1, 0, 1, 0, 0])
  score[1] = -np.inf
  chosen = sft_losses.choose(score, mask, 1.0)
  np.testing.assert_array_equal(chosen, mask)


@pytest.mark.parametrize('loss', sft_losses.LOSSES.values())
def test_nothing_to_train_on_is_no_number(loss):
  """Which the guard on updates sees."""
  logp, entropy, mask = draw()
  assert np.isnan(loss(logp, entropy, 0 * mask)[0])
  one = np.zeros_like(mask)
  one[2, 3] = 1
  assert float(loss(logp, entropy, one)[0]) == -logp[2, 3]


# --- In a step ---


def load(**changes):
  config = tiny_lrm.get_config()
  config.unlock()
  config.loss = changes
  return config


def run_step(loss, mesh=None, steps=2):
  """(parameters, numbers of the steps) of a tiny model, on the host."""
  model = tiny.make_config(vocab_size=38)
  params = jax.tree.map(jnp.array, tiny.make_params(model))
  params = sharding.put(params, mesh, specs_of(params, mesh))
  state = TrainState(jnp.int32(0), params, SGD.init(params))
  step = sft_step.of_run(load(**loss), model, SGD, policy.whole, mesh)
  rows, mask, _ = pack_pairs(PAIRS * 4, rows=8, row_length=16)
  rows, mask = sharding.put((rows, mask), mesh, sharding.ROWS)
  found = []
  for _ in range(steps):
    state, numbers = step(state, rows, mask)
    found.append({name: float(x) for name, x in numbers.items()})
  return jax.device_get(state.params), found


def specs_of(params, mesh):
  return None if mesh is None else sharding.tree_specs(params, mesh)


def test_a_fraction_of_one_is_cross_entropy_to_the_bit():
  plain, expected = run_step({'name': 'cross_entropy'})
  params, found = run_step({'name': 'entropy_sft', 'fraction': 1.0})
  bits.assert_same(params, plain)
  for row, numbers in zip(found, expected, strict=True):
    assert row.pop('cross_entropy') == row['loss']
    assert row == numbers
  other, found = run_step({'name': 'entropy_sft', 'fraction': 0.5})
  whole = found[0]['cross_entropy']
  assert whole == pytest.approx(expected[0]['loss'], rel=1e-6)
  assert found[0]['loss'] > whole + 0.01
  with pytest.raises(AssertionError):
    bits.assert_same(other, plain)


def test_a_step_against_numpy():
  """Entropy of the whole vocabulary at temperature 1, and the whole batch."""
  model = tiny.make_config(vocab_size=38)
  params = tiny.make_params(model)
  rows, mask, cursor = pack_pairs(PAIRS * 4, rows=8, row_length=16)
  logp, entropy = [], []
  # In the order of rows: of equal demonstrations the first ones are taken.
  for row in range(8):
    for segment in range(1, rows.segment_ids[row].max() + 1):
      places = np.flatnonzero(rows.segment_ids[row] == segment)
      tokens = np.asarray(rows.tokens[row, places])
      scores = np.float64(tiny.forced_logits(model, params, tokens, 16))
      laws = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
      for place in np.flatnonzero(mask[row, places]):
        law = laws[place - 1]
        logp.append(law[tokens[place]])
        entropy.append(-(np.exp(law) * law).sum())
  assert cursor == 16 and len(logp) == mask.sum() == 44
  for fraction in (0.8, 0.3):
    keywords = {'fraction': fraction, 'coefficient': 0.6}
    _, found = run_step({'name': 'entropy_sft'} | keywords, steps=1)
    expected, _ = reference(logp, entropy, np.ones(44), **keywords)
    assert found[0]['loss'] == pytest.approx(expected, rel=1e-5)
    assert found[0]['cross_entropy'] == pytest.approx(-np.mean(logp), rel=1e-5)


def check():
  """On 8 devices: how far each mesh is from one device, as JSON.

  After one step: what it is rounded by grows with every one more. Rows that
  chose for themselves would be 0.2 apart.
  """
  loss = {'name': 'entropy_sft', 'fraction': 0.5}
  plain, expected = run_step(loss, steps=1)
  for sizes in MESHES:
    params, found = run_step(loss, mesh_lib.make(sizes), steps=1)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, plain)
    yield {
      'loss': max(
        abs(a[name] - b[name])
        for a, b in zip(found, expected, strict=True)
        for name in ('loss', 'cross_entropy')
      ),
      'params': float(max(jax.tree.leaves(apart))),
    }


@pytest.mark.slow
def test_a_mesh_chooses_among_the_tokens_of_all_devices():
  done = eight_devices.run('tests.sft_losses_test')
  found = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(found) == len(MESHES)
  for row in found:
    assert row['loss'] <= 2e-6 and row['params'] <= 1e-5, found


@pytest.mark.slow
def test_a_run(tmp_path):
  keys = sft_test.NEW_MODEL | {'loss.name': 'entropy_sft'}
  assert sft_test._run(tmp_path, keys) == 0
  for row in jsonl.read_rows(tmp_path / 'metrics.jsonl'):
    assert row['skipped'] == 0 and row['loss'] != row['cross_entropy']


@pytest.mark.parametrize(
  ('loss', 'message'),
  [
    (
      {'name': 'nll'},
      "loss: no function is named 'nll'; choose from cross_entropy, "
      'entropy_sft',
    ),
    (
      {'fraction': 0.5},
      "loss: no key 'name'; choose from cross_entropy, entropy_sft",
    ),
    (
      {'name': 'cross_entropy', 'fraction': 0.5},
      "loss: unknown key 'fraction'; cross_entropy takes no keys",
    ),
    (
      {'name': 'entropy_sft', 'fraction': '0.5'},
      "loss: entropy_sft.fraction = '0.5': give a value of type float",
    ),
    (
      {'name': 'entropy_sft', 'fraction': 0.0},
      'entropy_sft: fraction = 0.0; give one from 0.0001 to 1',
    ),
    (
      {'name': 'entropy_sft', 'fraction': 1.5},
      'entropy_sft: fraction = 1.5; give one from 0.0001 to 1',
    ),
    (
      {'name': 'entropy_sft', 'coefficient': -0.1},
      'entropy_sft: coefficient = -0.1; give at least 0',
    ),
  ],
)
def test_losses_that_are_refused(loss, message):
  with pytest.raises(UserError) as error:
    sft.check(load(**loss))
  assert str(error.value) == message


if __name__ == '__main__':
  for line in check():
    print(json.dumps(line))
