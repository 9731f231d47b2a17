"""The update's promises: packing, micro-batching and masking change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import efficient, objectives
from lrm_jax import packing, programs, train_step
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import ModelConfig
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.structs import Rollouts, TrainState
from tests.objectives import reference

B, G, P, T, V = 4, 3, 6, 7, 31
MODEL = ModelConfig(
  vocab_size=V,
  d_model=16,
  n_layers=2,
  n_heads=4,
  n_kv_heads=2,
  head_dim=8,
  d_ff=24,
)


def make_rollouts(seed=0) -> Rollouts:
  rng = np.random.default_rng(seed)
  length = rng.integers(1, T + 1, (B, G)).astype(np.int32)
  length[0, 0], length[1, 1] = 1, T
  valid = np.arange(T) < length[..., None]
  prompt_length = rng.integers(1, P + 1, B).astype(np.int32)
  return reference.rollouts(
    prompt_ids=rng.integers(1, V, (B, P)),
    prompt_length=prompt_length,
    response_ids=rng.integers(1, V, (B, G, T)) * valid,
    length=length,
    correct=rng.integers(0, 2, (B, G)),
  )


@jax.jit
def dense_logp(params, rollouts: Rollouts):
  """`[B, G, T]` with one unpacked, right-padded row per sequence."""
  n, width = B * G, P + T
  prompt = jnp.repeat(rollouts.prompt_ids, G, axis=0)
  start = jnp.repeat(rollouts.prompt_length, G)[:, None]
  response = rollouts.response_ids.reshape(n, T)
  columns = jnp.arange(width)[None]
  ids = jnp.where(
    columns < start,
    jnp.pad(prompt, ((0, 0), (0, T))),
    jnp.take_along_axis(response, jnp.clip(columns - start, 0, T - 1), axis=1),
  )
  positions = jnp.broadcast_to(columns, ids.shape)
  hidden, _ = transformer.apply(
    MODEL, params, ids, positions, jnp.ones_like(ids)
  )
  scores = output_head.logits(MODEL, params, hidden)
  at = start + jnp.arange(T)
  of_position = jnp.take_along_axis(scores, (at - 1)[..., None], axis=1)
  if rollouts.kept_ids is not None:
    kept = rollouts.kept_ids.reshape(n, T, -1)
    inside = jnp.any(kept[..., None] == jnp.arange(V), axis=2)
    inside |= response[..., None] == jnp.arange(V)
    of_position = jnp.where(inside, of_position, -1e9)
  of_position = jax.nn.log_softmax(of_position)
  logp = jnp.take_along_axis(of_position, response[..., None], axis=2)[..., 0]
  return logp.reshape(B, G, T) * rollouts.mask


# With a term of its own aggregate, a focus on the whole mini-batch, ratios of
# sequences and losses of groups: what cutting a mini-batch could break.
RECIPES = {
  'dler': efficient.dler(cap=T),
  'dot': efficient.dot(cap=T),
  'drpo': efficient.drpo(cap=T),
  'grpo': objectives.grpo(cap=T),
  'gspo': objectives.gspo(cap=T),
  'llds': objectives.llds(cap=T),
}
RECIPES['dot'].regularizers.kl_cov.fraction = 0.2  # of a few dozen tokens
RECIPES['gspo'].loss.low = RECIPES['gspo'].loss.high = 0.3


def make_recipe(name='dler'):
  objective = RECIPES[name].to_dict()
  return recipe_lib.build(ml_collections.ConfigDict({'objective': objective}))


@dataclasses.dataclass
class Case:
  params: dict
  ref_params: dict
  rollouts: Rollouts
  advantage: np.ndarray
  keep: np.ndarray


@pytest.fixture(scope='module')
def case() -> Case:
  keys = jax.random.split(jax.random.key(0), 2)
  params, ref = (transformer.init_params(MODEL, key) for key in keys)
  rollouts = make_rollouts()
  noise = np.random.default_rng(1).normal(0, 0.3, (B, G, T))
  logp = dense_logp(params, rollouts) + noise * rollouts.mask
  rollouts = dataclasses.replace(
    rollouts, sampler_logp=np.asarray(logp, np.float32)
  )
  advantage = np.random.default_rng(2).normal(size=(B, G, 1))
  advantage = (advantage * rollouts.mask).astype(np.float32)
  keep = np.ones((B, G), bool)
  return Case(params, ref, rollouts, advantage, keep)


def run_update(
  case: Case,
  *,
  keep=None,
  rows=16,
  row_length=32,
  groups=4,
  recipe='dler',
  shared=False,
):
  """One SGD step of rate 1, so parameters move by minus the gradient."""
  optimizer = optax.sgd(1.0)
  update = train_step.make_update(
    MODEL, make_recipe(recipe), optimizer, temperature=1.0, chunk=16
  )
  keep = case.keep if keep is None else keep
  packed = packing.pack_groups(
    case.rollouts,
    keep,
    rows=rows,
    row_length=row_length,
    groups_per_micro_batch=groups,
    shared=shared,
  )
  targets = train_step.Targets(
    case.rollouts.sampler_logp,
    (case.advantage,),
    case.rollouts.mask * keep[..., None],
    case.rollouts.stale,
    case.rollouts.thinking_length,
    case.rollouts.kept_ids,
  )
  params = jax.tree.map(jnp.copy, case.params)
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  new, metrics = update(state, case.ref_params, packed, targets)
  grads = jax.tree.map(lambda a, b: a - b, case.params, new.params)
  return grads, {k: float(v) for k, v in metrics.items()}, packed


def assert_same(a, b, atol=2e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=atol)


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('recipe', RECIPES)
def test_loss_and_gradient_are_those_of_the_unpacked_formula(
  case, recipe, shared
):
  """The whole update against one dense forward pass per sequence."""
  built = make_recipe(recipe)
  mask = case.rollouts.mask

  def loss(params):
    logp = dense_logp(params, case.rollouts)
    terms = train_step.TokenTerms(
      logp=logp,
      old_logp=case.rollouts.sampler_logp,
      ref_logp=dense_logp(case.ref_params, case.rollouts),
      entropy=jnp.zeros_like(logp),
      advantage=case.advantage,
      mask=mask,
      focus=jnp.ones_like(logp),
      answer=jnp.ones_like(logp),
    )
    focus = built.focus(
      jax.lax.stop_gradient(logp), terms.old_logp, terms.advantage, mask
    )
    advantages = (terms.advantage,)
    return built.total(terms, advantages, built.weights(mask), focus)

  expected, expected_grads = jax.value_and_grad(loss)(case.params)
  grads, metrics, _ = run_update(case, recipe=recipe, shared=shared)
  assert metrics['loss'] == pytest.approx(float(expected), abs=1e-6)
  assert_same(grads, expected_grads)


@pytest.mark.slow
@pytest.mark.parametrize('recipe', RECIPES)
def test_micro_batches_and_row_shapes_do_not_change_the_update(case, recipe):
  whole, metrics, packed = run_update(case, recipe=recipe)
  assert packed.count == 1
  for rows, row_length, groups, count in ((16, 32, 1, 4), (3, 13, 4, 4)):
    grads, other, packed = run_update(
      case, rows=rows, row_length=row_length, groups=groups, recipe=recipe
    )
    assert packed.count == count
    assert_same(grads, whole)
    for name, value in metrics.items():
      # Of a gradient of 28, the seventh digit is rounding.
      assert other[name] == pytest.approx(value, abs=2e-6, rel=2e-6), name


def test_prompts_that_are_shared_do_not_change_the_update(case):
  """In rows of two or three samples."""
  whole, metrics, packed = run_update(case)
  grads, other, shared = run_update(case, rows=3, row_length=24, shared=True)
  used = [(x.rows.segment_ids > 0).sum() for x in (packed, shared)]
  assert used[1] < used[0]
  assert_same(grads, whole)
  assert other == pytest.approx(metrics, abs=2e-6, rel=2e-6)


@pytest.mark.slow
def test_dropped_samples_are_as_if_never_sampled(case):
  """What stands in a dropped sample, even NaN, cannot matter."""
  keep = case.keep.copy()
  keep[1] = False
  keep[2, 1] = False
  clean, _, _ = run_update(case, keep=keep)
  rollouts = case.rollouts
  dirty = dataclasses.replace(
    rollouts,
    sampler_logp=np.where(keep[..., None], rollouts.sampler_logp, np.nan),
  )
  # Targets carry the mask; the loss must not let masked garbage through.
  poisoned = dataclasses.replace(case, rollouts=dirty)
  grads, _, _ = run_update(poisoned, keep=keep)
  assert_same(grads, clean, atol=0)
  different, _, _ = run_update(case)
  gap = max(
    float(jnp.abs(x - y).max())
    for x, y in zip(
      jax.tree.leaves(clean), jax.tree.leaves(different), strict=True
    )
  )
  assert gap > 1e-4


def test_gap_is_the_largest_difference_to_the_sampler(case):
  exact = dataclasses.replace(
    case.rollouts,
    sampler_logp=np.array(dense_logp(case.params, case.rollouts)),
  )
  _, metrics, _ = run_update(dataclasses.replace(case, rollouts=exact))
  assert metrics['logp_gap_max'] < 1e-5
  off = exact.sampler_logp.copy()
  off[2, 0, 0] += 0.125
  moved = dataclasses.replace(exact, sampler_logp=off)
  _, metrics, _ = run_update(dataclasses.replace(case, rollouts=moved))
  assert metrics['logp_gap_max'] == pytest.approx(0.125, abs=1e-5)


def test_stale_tokens_are_left_out_of_the_gap(case):
  """Also in a micro-batch that has room for more groups."""
  rollouts = dataclasses.replace(
    case.rollouts,
    sampler_logp=np.array(dense_logp(case.params, case.rollouts)),
    stale=np.minimum(case.rollouts.length, 2),
  )
  rollouts.sampler_logp[1, 1, 0] += 0.125
  stale = dataclasses.replace(case, rollouts=rollouts)
  for groups in (1, 4, 6):
    _, metrics, _ = run_update(stale, groups=groups)
    assert metrics['logp_gap_max'] < 1e-5
  assert rollouts.length[1, 1] > 2
  rollouts.sampler_logp[1, 1, 2] += 0.25
  _, metrics, _ = run_update(stale, groups=6)
  assert metrics['logp_gap_max'] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize('row_length', [13, 32])
def test_stale_tokens_are_not_in_the_gap(case, row_length):
  """Nor where a micro-batch has fewer groups than it has room for."""
  logp = np.array(dense_logp(case.params, case.rollouts))
  stale = case.rollouts.length // 2
  is_stale = np.arange(T) < stale[..., None]
  rollouts = dataclasses.replace(
    case.rollouts, sampler_logp=logp + is_stale, stale=stale
  )
  aged = dataclasses.replace(case, rollouts=rollouts)
  _, metrics, packed = run_update(aged, rows=3, row_length=row_length)
  # Otherwise this would show nothing.
  assert (np.asarray(packed.groups)[: packed.count] < 0).any()
  assert metrics['logp_gap_max'] < 1e-5


def test_group_order_does_not_matter(case):
  whole, _, _ = run_update(case)
  order = np.array([2, 0, 3, 1])
  shuffled = dataclasses.replace(
    case,
    rollouts=jax.tree.map(lambda x: x[order], case.rollouts),
    advantage=case.advantage[order],
  )
  grads, _, _ = run_update(shuffled)
  assert_same(grads, whole)


def test_metrics_of_an_on_policy_batch(case):
  """On policy: ratio 1, and KL(k1) to the reference by hand."""
  logp = np.array(dense_logp(case.params, case.rollouts))
  ref_logp = np.array(dense_logp(case.ref_params, case.rollouts))
  exact = dataclasses.replace(case.rollouts, sampler_logp=logp)
  _, metrics, _ = run_update(dataclasses.replace(case, rollouts=exact))
  mask = case.rollouts.mask
  assert metrics['ratio_mean'] == pytest.approx(1.0, abs=1e-5)
  assert metrics['trained_tokens'] == mask.sum()
  expected = ((logp - ref_logp) * mask).sum() / mask.sum()
  assert metrics['kl'] == pytest.approx(expected, abs=1e-5)


def test_shape_and_credit_follow_the_recipe():
  """Two groups: one mixed, one all right; DLER keeps the mixed one only."""
  rollouts = dataclasses.replace(
    make_rollouts(), correct=np.ones((B, G), np.float32)
  )
  rollouts.correct[0, 1] = 0
  recipe = make_recipe('dler')
  reward, keep, memory = programs.make_shape(recipe)(rollouts, {})
  assert memory == {}
  np.testing.assert_array_equal(reward, rollouts.correct)
  np.testing.assert_array_equal(
    np.asarray(keep), [[True] * G] + [[False] * G] * (B - 1)
  )
  credit = programs.make_credit(recipe)
  (advantage,), mask = credit(reward, keep, rollouts)
  np.testing.assert_array_equal(
    mask, rollouts.mask * np.asarray(keep)[..., None]
  )
  assert float(advantage[0, 0, 0]) > 0 > float(advantage[0, 1, 0])
  assert float(jnp.abs(advantage[1:]).max()) == 0
