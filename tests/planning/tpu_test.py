"""Programs compiled for chips that are not there: what they hold and send."""

import json
import math

import jax
import pytest

from lrm_jax import configuration, main
from lrm_jax.planning import compiling, hlo, memory, topologies

pytest.importorskip('libtpu', reason="no compiler: pip install 'lrm_jax[plan]'")

CONFIG = 'configs/default.py'
# Sizes by which an array is known: no two are alike.
LAYERS, WIDTH, INNER, VOCAB = 3, 256, 896, 4864
SIZES = {
  'architectures': ['Qwen2ForCausalLM'],
  'model_type': 'qwen2',
  'hidden_act': 'silu',
  'hidden_size': WIDTH,
  'intermediate_size': INNER,
  'num_hidden_layers': LAYERS,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 128,
  'vocab_size': VOCAB,
  'max_position_embeddings': 4096,
  'rms_norm_eps': 1e-6,
  'rope_theta': 10000.0,
  'tie_word_embeddings': False,
}
# What XLA calls the memory of the host.
HOST_SPACE = 5
ROWS, LENGTH, CHUNK = 8, 640, 320
SETTINGS = (
  'model.attention=splash',
  'model.compute_dtype=bfloat16',
  'model.logits_dtype=bfloat16',
  'model.remat=full',
  'data.max_prompt_tokens=128',
  'train.max_tokens=512',
  'eval.max_tokens=512',
  f'train.row_length={LENGTH}',
  f'train.rows={ROWS}',
  'train.groups=8',
  f'train.logit_chunk={4 * CHUNK}',
  'sampler.slots=64',
)


MESHES = ('fsdp', pytest.param('fsdp and tensor', marks=pytest.mark.long))


@pytest.fixture(scope='module')
def architecture(tmp_path_factory):
  folder = tmp_path_factory.mktemp('architecture')
  (folder / 'config.json').write_text(json.dumps(SIZES))
  return folder


@pytest.fixture(scope='module', params=MESHES)
def compiled(request, architecture):
  """(run, program, its module) of an update on four chips."""
  tensor = 1 if request.param == 'fsdp' else 2
  settings = (*SETTINGS, f'model.path={architecture}', f'mesh.tensor={tensor}')
  config = configuration.load(CONFIG, [f'config.{s}' for s in settings])
  run = compiling.describe(config, topologies.find('v5e:2x2'))
  program = compiling.update(run)
  return run, program, hlo.parse(program.compiled.as_text())


def arrays(module):
  """(shape, depth) of all that is in memory, once each."""
  return {
    (array.shape, array.dtype, visit.depth)
    for visit in hlo.walk(module)
    for array in visit.instruction.arrays
    if not visit.is_fused
  }


def test_no_stack_of_parameters_is_gathered(compiled):
  _, _, module = compiled
  found = hlo.collectives(module)
  gathers = [x for x in found if x.kind == 'all-gather']
  for each in gathers:
    for shape in each.shapes:
      assert LAYERS not in shape or math.prod(shape) < WIDTH * LAYERS * 8, each
  # Layers are brought together one at a time, in the loop over them.
  assert any(x.depth == 2 and x.times == LAYERS for x in found)


def test_no_logits_of_all_tokens(compiled):
  run, _, module = compiled
  tensor = run.mesh.shape['tensor']
  largest = max(
    math.prod(shape)
    for shape, *_ in arrays(module)
    if VOCAB // tensor in shape
    and not {WIDTH, WIDTH // run.mesh.shape['fsdp']} & set(shape)
  )
  # Those of a chunk; devices of the tensor axis share them.
  assert largest == CHUNK * VOCAB


def test_no_hidden_states_of_all_responses(compiled):
  run, _, module = compiled
  config = run.config.train
  hidden = config.problems * config.samples * config.max_tokens * WIDTH
  own = ROWS // run.mesh.shape['fsdp'] * LENGTH
  for shape, *_ in arrays(module):
    assert math.prod(shape) < hidden
    if WIDTH in shape and LENGTH in shape:
      assert math.prod(shape) <= own * WIDTH * LAYERS


def test_the_optimizer_is_divided(compiled):
  run, program, module = compiled
  whole = sum(
    math.prod(x.shape) * x.dtype.itemsize
    for x in jax.tree.leaves(run.state.opt_state)
  )
  # All but norms and biases, which are small.
  assert memory.held(run.state.opt_state) < whole / 4 * 1.02
  for shape, dtype, _ in arrays(module):
    if dtype == 'f32' and shape[:1] == (LAYERS,):
      assert math.prod(shape) <= LAYERS * WIDTH * INNER // 4, shape


def test_the_gradient_of_the_head_is_summed_where_it_is_kept(compiled):
  _, _, module = compiled
  summed = [
    x
    for x in hlo.collectives(module)
    if x.kind == 'all-reduce' and any(VOCAB in shape for shape in x.shapes)
  ]
  # XLA writes a sum that it divides as one that all have, and a cut.
  assert all(x.depth == 1 for x in summed)
  held = [
    shape
    for visit in hlo.walk(module)
    if visit.instruction.kind == 'while' and visit.depth == 0
    for shape in (array.shape for array in visit.instruction.arrays)
    if VOCAB in shape
  ]
  assert (WIDTH, VOCAB) not in held


@pytest.mark.long
def test_what_lies_on_the_host_is_fetched_late(architecture):
  settings = (*SETTINGS, f'model.path={architecture}')
  config = configuration.load(
    CONFIG,
    [f'config.{s}' for s in (*settings, 'train.offload=optimizer,reference')],
  )
  run = compiling.describe(config, topologies.find('v5e:2x2'))
  program = compiling.update(run)
  stats = program.compiled.memory_analysis()
  optimizer = memory.offloaded(run.state.opt_state)
  reference = memory.offloaded(run.reference)
  params = memory.held(run.state.params)
  assert reference == params and optimizer == pytest.approx(2 * params, rel=0.1)
  assert memory.held((run.state.opt_state, run.reference)) < 64
  assert stats.host_argument_size_in_bytes >= optimizer + reference
  assert stats.host_alias_size_in_bytes >= optimizer
  batch = memory.held(program.inputs['batch'])
  assert stats.argument_size_in_bytes < 1.2 * (params + batch)

  module = hlo.parse(program.compiled.as_text())
  on_host = lambda line: any(
    array.space == HOST_SPACE for array in line.arrays if array.bytes > 1e5
  )
  # Of the optimizer in a branch behind the micro-batches, of the reference
  # within each of them.
  assert not any(
    map(
      on_host,
      [
        line
        for line in module.computations[module.entry]
        if line.kind == 'copy-start'
      ],
    )
  )
  fetched = [
    visit
    for visit in hlo.walk(module)
    if visit.instruction.kind == 'copy-start' and on_host(visit.instruction)
  ]
  assert {visit.depth for visit in fetched} == {0, 1}


def test_plan_says_what_fits(architecture, tmp_path, capsys):
  arguments = [
    f'--config.{s}' for s in (*SETTINGS, f'model.path={architecture}')
  ]
  code = main.main(
    [
      'lrm',
      'plan',
      f'--config={CONFIG}',
      '--topology=v5e:2x2',
      f'--workdir={tmp_path / "plan"}',
      '--response_tokens=256,512',
      *arguments,
    ]
  )
  out = capsys.readouterr().out
  assert code == 0, out
  summary = json.loads((tmp_path / 'plan' / 'summary.json').read_text())
  assert summary['fits'] is True
  assert summary['chips'] == 4 and summary['mesh']['fsdp'] == 4
  assert [step['response'] for step in summary['steps']] == [256, 512]
  for phase in summary['memory'].values():
    parts = [value for name, value in phase.items() if name != 'total']
    assert sum(parts) == phase['total'] < summary['hbm']
  for step in summary['steps']:
    assert 0 < step['update']['mfu_bound'] <= step['update']['mfu_compute'] < 1
    assert step['step']['tokens_per_second'] > 0
  assert 'fits' in out and 'tokens/s' in out
