"""What is trained, what is frozen, and runs that train adapters."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrm_jax import (
  compilation,
  configuration,
  experiment,
  jsonl,
  main,
  packing,
  policy,
  resuming,
  train,
  train_step,
)
from lrm_jax.checkpoints import huggingface, peft_layout, recovery
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.models import lora as lora_lib
from lrm_jax.models.lora import Lora
from lrm_jax.rewards.pool import Grader
from lrm_jax.structs import TrainState
from tests import bits
from tests.models.lora_test import names, trained
from tests.train_step_test import (
  MODEL,
  assert_same,
  case,  # noqa: F401
  make_recipe,
)

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]
BASE = ROOT / 'lrm_jax' / 'assets' / 'tiny_lrm'
LORA = Lora(rank=3, alpha=5.0)


# --- One update ---


def make_targets(case):  # noqa: F811
  told = case.rollouts
  beside = told.mask, told.stale, told.thinking_length
  return train_step.Targets(told.sampler_logp, (case.advantage,), *beside)


def run_update(case, adapters, recipe='dler', groups=4, rows=16):  # noqa: F811
  """One step of SGD of rate 1; returns minus the move, and the metrics."""
  optimizer = optax.sgd(1.0)
  update = train_step.make_update(
    MODEL,
    make_recipe(recipe),
    optimizer,
    temperature=1.0,
    chunk=16,
    combine=lambda trained, frozen: lora_lib.merge(frozen, trained, LORA),
  )
  packed = packing.pack_groups(
    case.rollouts,
    case.keep,
    rows=rows,
    row_length=32,
    groups_per_micro_batch=groups,
  )
  targets = make_targets(case)
  start = jax.tree.map(jnp.copy, adapters)
  state = TrainState(jnp.int32(0), start, optimizer.init(start))
  new, metrics = update(state, case.ref_params, packed, targets, case.params)
  grads = jax.tree.map(lambda a, b: a - b, adapters, new.params)
  return grads, {k: float(v) for k, v in metrics.items()}, packed.count


# The second looks at the log-probabilities of the whole mini-batch first.
@pytest.mark.parametrize('recipe', ['dler', 'dot'])
def test_update_is_that_of_the_merged_kernels_projected(case, recipe):  # noqa: F811
  """Of the whole model at the merged weights: dA = s G B^T, dB = s A^T G."""
  adapters = trained(LORA, case.params)
  grads, metrics, count = run_update(case, adapters, recipe)
  assert count == 1
  merged = lora_lib.merge(case.params, adapters, LORA)
  optimizer = optax.sgd(1.0)
  update = train_step.make_update(
    MODEL, make_recipe(recipe), optimizer, temperature=1.0, chunk=16
  )
  packed = packing.pack_groups(
    case.rollouts, case.keep, rows=16, row_length=32, groups_per_micro_batch=4
  )
  targets = make_targets(case)
  start = jax.tree.map(jnp.copy, merged)
  state = TrainState(jnp.int32(0), start, optimizer.init(start))
  new, whole = update(state, case.ref_params, packed, targets)
  for name in ('loss', 'kl', 'logp_gap_max'):
    assert metrics[name] == pytest.approx(float(whole[name]), abs=2e-6)
  moves = jax.tree.map(lambda a, b: np.float64(a - b), merged, new.params)
  moves = dict(jax.tree.leaves_with_path(moves))
  pairs = dict(jax.tree.leaves_with_path(adapters))
  for path, value in jax.tree.leaves_with_path(grads):
    a, b = (
      np.float64(pairs[(*path[:-1], jax.tree_util.DictKey(name))])
      for name in ('lora_a', 'lora_b')
    )
    expected = moves[path[:-1]] @ b.swapaxes(1, 2)
    if path[-1].key == 'lora_b':
      expected = a.swapaxes(1, 2) @ moves[path[:-1]]
    np.testing.assert_allclose(value, 5 / 3 * expected, atol=2e-5, rtol=1e-4)


def test_micro_batches_do_not_change_the_update(case):  # noqa: F811
  adapters = trained(LORA, case.params)
  whole, metrics, _ = run_update(case, adapters)
  grads, other, count = run_update(case, adapters, groups=1)
  assert count == 4
  assert_same(grads, whole)
  assert other['loss'] == pytest.approx(metrics['loss'], abs=2e-6)


# --- Runs ---

SIZES = {
  'data.train': 'chain_arithmetic:train:2-3',
  'data.eval': 'chain_arithmetic:heldout:2-3',
  'train.steps': 20,
  'train.problems': 8,
  'train.samples': 4,
  'train.max_tokens': 48,
  'objective.budget.cap': 48,
  'train.rows': 8,
  'train.row_length': 96,
  'train.groups': 4,
  'train.checkpoint_every': 10,
  'train.rollouts_every': 0,
  'sampler.slots': 64,
  'eval.problems': 8,
  'eval.samples': 2,
  'eval.max_tokens': 48,
  # With a higher one scores get so sharp that float32 is off by 1e-4 nats.
  'optimizer.learning_rate': 2e-3,
  'lora.rank': 4,
}


def load(**changes):
  keys = SIZES | {k.replace('__', '.'): v for k, v in changes.items()}
  return configuration.load(
    ROOT / 'configs' / 'quickstart.py',
    [f'config.{key}={value}' for key, value in keys.items()],
  )


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def advance(built, workdir):
  """Trains to the end; returns the metrics of every step."""
  checkpoints = RunCheckpoints(workdir, keep=5)
  resuming.restore(built, checkpoints)
  train.train(built, workdir, checkpoints, compilation.CompileWatch())
  checkpoints.close()
  return jsonl.read_rows(workdir / 'metrics.jsonl')


@pytest.fixture(scope='module')
def finished(grader, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  built = experiment.build(load(), grader)
  start = jax.device_get(built.state.params)
  return built, start, advance(built, workdir), workdir


def test_twenty_steps_change_the_adapters_and_nothing_else(finished):
  built, start, rows, _ = finished
  assert [row['step'] for row in rows] == list(range(1, 21))
  _, base = huggingface.load(BASE)
  bits.assert_same(jax.device_get(built.frozen), base)
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), built.state.params, start
  )
  assert min(jax.tree.leaves(moved)) > 1e-4
  changed = {
    name
    for name, same in zip(
      sorted(names(base)),
      jax.tree.leaves(
        jax.tree.map(lambda a, b: np.array_equal(a, b), base, built.params)
      ),
      strict=True,
    )
    if not same
  }
  assert len(changed) == 7
  assert all('attention/' in name or 'mlp/' in name for name in changed)


def test_twenty_steps_teach_something(finished):
  """DLER's cap of 48 tokens: fewer answers are cut off, so more are right."""
  _, _, rows, _ = finished
  mean = lambda part, name: np.mean([row[name] for row in part])
  assert mean(rows[-5:], 'truncated') < 0.7 * mean(rows[:5], 'truncated')
  assert mean(rows[-5:], 'reward') > mean(rows[:5], 'reward') + 0.1


def test_sampler_and_trainer_agree_at_every_step(finished):
  for row in finished[2]:
    assert row['logp_gap_max'] < 1e-4


def test_the_reference_is_the_base(finished):
  """No copy is made, and at first the policy is the reference."""
  built, _, rows, _ = finished
  assert built.recipe.needs_reference
  assert built.ref_params is built.frozen
  assert abs(rows[0]['kl']) < 1e-6
  assert max(abs(row['kl']) for row in rows) > 1e-3


def test_nothing_is_compiled_after_the_second_step(finished):
  rows = finished[2]
  assert rows[1]['compilations'] == rows[-1]['compilations'] > 0


def test_state_and_checkpoint_hold_adapters_only(finished):
  """A and B of seven projections, twice more as moments, and counters."""
  built, _, _, workdir = finished
  model = built.model
  heads, kv = 4 * 32, 32
  width, inner, rank = model.d_model, model.d_ff, 4
  sides = 2 * (width + heads) + 2 * (width + kv) + 3 * (width + inner)
  numbers = model.n_layers * rank * sides
  leaves = names(built.state.params)
  assert len(leaves) == 14
  assert all(x.rpartition('/')[2] in ('lora_a', 'lora_b') for x in leaves)
  sizes = [x.size for x in jax.tree.leaves(built.state.params)]
  assert sum(sizes) == numbers
  arrays = [x for x in jax.tree.leaves(built.state.opt_state) if x.ndim]
  assert sum(x.size for x in arrays) == 2 * numbers
  folder = workdir / 'checkpoints' / '20' / 'state'
  stored = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
  whole = sum(x.size for x in jax.tree.leaves(built.frozen))
  # Random numbers hardly compress; beside them the memory and file headers.
  assert 0.8 * 12 * numbers < stored < 12 * numbers + 1e5 < 0.5 * 12 * whole


def test_resume_is_exact(finished, grader, tmp_path):
  built, _, rows, workdir = finished
  shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '20')
  resumed = experiment.build(load(), grader)
  # The same programs, not compiled again.
  resumed.programs = built.programs
  assert max(recovery.steps(tmp_path / 'run' / 'checkpoints')) == 10
  again = advance(resumed, tmp_path / 'run')
  bits.assert_same(resumed.state, built.state)
  bits.assert_same(resumed.params, built.params)
  timed = ('seconds', 'per_second', 'mfu', 'goodput', 'compilations')
  for one, other in zip(again, rows, strict=True):
    for key, value in one.items():
      if not any(word in key for word in timed):
        assert value == other[key], (one['step'], key)


def test_model_and_adapter_are_written_and_trained_on(finished, tmp_path):
  """A run starts from the adapters of another, its reference is the base."""
  built, *_ = finished
  written = policy.export(
    tmp_path,
    built.config,
    built.model,
    built.tokenizer,
    trained=built.state.params,
    params=built.params,
  )
  assert written == 'model/, adapter/'
  stated = json.loads((tmp_path / 'adapter/adapter_config.json').read_text())
  assert stated['base_model_name_or_path'] == 'tiny_lrm'
  assert (stated['r'], stated['lora_alpha']) == (4, 32)
  model, params = huggingface.load(tmp_path / 'model')
  bits.assert_same(params, jax.device_get(built.params))
  config = load(lora__path=tmp_path / 'adapter')
  found = policy.start(config, model)
  bits.assert_same(found, jax.device_get(built.state.params))
  _, base = huggingface.load(BASE)
  parts = policy.divide(config, model, base, needs_reference=True)
  bits.assert_same(jax.device_get(parts.reference), base)
  combined = parts.combine(parts.trained, parts.frozen)
  bits.assert_same(combined, built.params)


@pytest.mark.long
def test_base_in_bfloat16(grader, tmp_path):
  """Adapters and moments in float32, the policy in bfloat16."""
  config = load(model__param_dtype='bfloat16', train__steps=3)
  built = experiment.build(config, grader)
  rows = advance(built, tmp_path)
  kinds = lambda tree: {x.dtype.name for x in jax.tree.leaves(tree) if x.ndim}
  assert kinds(built.state) == {'float32'}
  assert kinds(built.params) == kinds(built.frozen) == {'bfloat16'}
  for row in rows:
    assert row['logp_gap_max'] < 1e-4
  policy.export(
    tmp_path,
    config,
    built.model,
    built.tokenizer,
    trained=built.state.params,
    params=built.params,
  )
  _, params = huggingface.load(tmp_path / 'model', param_dtype='bfloat16')
  bits.assert_same(params, jax.device_get(built.params))


# --- What is trained ---


def test_without_adapters_everything_is_trained():
  config = load(lora__rank=0)
  model, params = huggingface.load(BASE)
  for needed in (True, False):
    parts = policy.divide(config, model, params, needs_reference=needed)
    assert parts.frozen is None
    assert parts.combine(parts.trained, parts.frozen) is parts.trained
    bits.assert_same(jax.device_get(parts.trained), params)
    if needed:
      for one, two in zip(
        jax.tree.leaves(parts.reference),
        jax.tree.leaves(parts.trained),
        strict=True,
      ):
        assert one.unsafe_buffer_pointer() != two.unsafe_buffer_pointer()
    else:
      assert parts.reference is None


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'lora.rank': -1}, ('lora.rank=-1',)),
    ({'lora.rank': 33}, ('lora.rank=33', 'layers/attention/k/kernel', '32')),
    ({'lora.alpha': 0}, ('lora.alpha=0',)),
    ({'lora.targets': 'q,x'}, ("'x'", 'gate')),
    ({'lora.path': 'no/such'}, ('no/such', 'adapter_config.json')),
    ({'lora.path': 'x', 'lora.rank': 0}, ("lora.path='x'", 'lora.rank=0')),
  ],
)
def test_mistakes_are_one_line(changes, words):
  config = load(**changes)
  model = huggingface.read_config(BASE)
  with pytest.raises(UserError) as error:
    policy.divide(config, model, {}, needs_reference=False)
  assert '\n' not in str(error.value)
  for word in words:
    assert word in str(error.value)


# --- The supervised loop ---


def test_sft_trains_adapters(tmp_path):
  """With Muon, the default there."""
  row = {'question': 'Start=1 a:+2', 'response': ' a:1+2=3</think>\\boxed{3}'}
  (tmp_path / 'rows.jsonl').write_text(json.dumps(row) + '\n')
  keys = {
    'model.path': BASE,
    'data.train': tmp_path / 'rows.jsonl',
    'lora.rank': 2,
    'lora.alpha': 4,
    'lora.targets': 'q,up',
    'stages.a_facts.steps': 3,
    'stages.a_facts.rows': 2,
    'stages.a_facts.row_length': 96,
    'stages.b_verbose.steps': 3,
    'stages.b_verbose.rows': 2,
    'stages.b_verbose.row_length': 96,
    'optimizer.warmup_steps': 1,
    'eval.problems': 0,
  }
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  words = [f'--config={ROOT}/configs/tiny_lrm.py', f'--workdir={tmp_path}/run']
  assert main.main(['lrm', 'sft', *words, *flags]) == 0
  losses = [x['loss'] for x in jsonl.read_rows(tmp_path / 'run/metrics.jsonl')]
  assert losses[-1] < losses[0]
  model, base = huggingface.load(BASE)
  _, tuned = huggingface.load(tmp_path / 'run/model')
  lora = Lora(2, 4.0, ('q', 'up'))
  adapters = peft_layout.load(tmp_path / 'run/adapter', model, lora)
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(adapters))
  bits.assert_same(jax.device_get(lora_lib.merge(base, adapters, lora)), tuned)
