"""`lrm plan` on the devices of this machine, its sums, and what it refuses."""

import functools
import json

import jax
import pytest

from lrm_jax import chips, configuration, flops, main
from lrm_jax.planning import (
  compiling,
  costs,
  memory,
  plan,
  steps,
  sweep,
  topologies,
)
from lrm_jax.planning.steps import Workload
from tests import tiny

# Of round numbers: 1000 FLOPs, 100 bytes of memory and 10 of links a second.
CHIP = chips.Chip(('cpu',), 1e3, 2**40, 1e2, 1e1)
SETTINGS = {
  'data.max_prompt_tokens': 24,
  'train.problems': 4,
  'train.samples': 2,
  'train.mini_batches': 2,
  'train.max_tokens': 40,
  'objective.budget.cap': 40,
  'train.rows': 2,
  'train.row_length': 64,
  'train.groups': 2,
  'eval.max_tokens': 40,
  'eval.samples': 2,
  'sampler.slots': 4,
  'sampler.lanes': 1,
}


def overrides():
  settings = SETTINGS | {'model.path': tiny.model_directory()}
  return [f'config.{key}={value}' for key, value in settings.items()]


def run(*flags):
  settings = [f'--{each}' for each in overrides()]
  return main.main(
    ['lrm', 'plan', '--config=configs/default.py', *settings, *flags]
  )


@functools.cache
def described():
  config = configuration.load('configs/default.py', overrides())
  return compiling.describe(config, topologies.find('local')[:1])


def test_plans_for_the_devices_here(tmp_path, capsys):
  folder = tmp_path / 'new' / 'plan'
  assert run('--topology=local', f'--workdir={folder}') == 0
  out = capsys.readouterr().out
  assert 'the memory of these devices is not known' in out
  found = json.loads((folder / 'summary.json').read_text())
  assert found['fits'] is None and found['verb'] == 'plan'
  assert found['config']['train']['problems'] == 4
  # Nobody has said how fast they are.
  assert 'steps' not in found
  update, sample = (found['memory'][name] for name in ('update', 'sample'))
  count = found['parameters']
  assert update['parameters'] == sample['parameters'] == 4 * count
  # Two moments in float32 and counts.
  assert 8 * count <= update['optimizer'] <= 8 * count + 100
  assert sample['keys and values'] > 0
  for phase in found['memory'].values():
    assert sum(phase.values()) == 2 * phase['total']
    assert min(phase.values()) >= 0


@pytest.mark.parametrize(('hbm', 'code'), [(2**40, 0), (2**10, 1)])
def test_exit_code_says_whether_it_fits(monkeypatch, capsys, hbm, code):
  chip = CHIP._replace(hbm=hbm)
  monkeypatch.setattr(topologies, 'chip', lambda name, devices: chip)
  flags = '--topology=local', '--response_tokens=20,40', '--price=2'
  assert run(*flags) == code
  out, err = capsys.readouterr()
  assert ('DOES NOT FIT' in out) == bool(code)
  assert ('check failed: configs/default.py does not fit' in err) == bool(code)
  assert 'price' in out and 'MFU at best' in out


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ((), '--topology is missing'),
    (('--topology=v5e',), "--topology='v5e' is not one of v5e, v5p, v6e with"),
    (('--topology=h9:4',), "--topology='h9:4' is not one of"),
    (
      ('--topology=local', '--response_tokens=4,x'),
      "--response_tokens='4,x': 'x' is no number of tokens",
    ),
    (
      ('--topology=local', '--response_tokens=41'),
      '--response_tokens=41 is not between 1 and 40',
    ),
    (
      ('--topology=local', '--prompt_tokens=25'),
      '--prompt_tokens=25 is not between 1 and 24',
    ),
    (
      (
        '--topology=local',
        '--sweep=train.rows=2',
        '--response_tokens=20,40',
      ),
      '--response_tokens: 2 lengths with --sweep',
    ),
    (
      ('--topology=local', '--sweep=train.rows'),
      "--sweep='train.rows': give a key and its values",
    ),
    (
      ('--topology=local', '--config.model.path=Nobody-7B'),
      'shapes are known of DeepSeek-R1-Distill-Qwen-1.5B',
    ),
    (
      ('--topology=local', '--config.mesh.tensor=2'),
      'is not for 1 devices',
    ),
    (
      ('--topology=local', '--config.train.batches_ahead=1'),
      'train.batches_ahead=1: a plan knows nothing of the second copy of the '
      'policy, nor of the sampler beside the update; plan with 0',
    ),
  ],
)
def test_mistakes_end_in_a_line(flags, message, capsys):
  assert run(*flags) == 2
  err = capsys.readouterr().err
  assert message in err and err.count('\n') == 1


def test_an_update_by_hand():
  work = Workload(prompt=10, response=20)
  # 4 samples of a mini-batch, two in a row of 64, two rows: one micro-batch.
  assert steps.pack(described(), work).micro_batches == 1
  assert steps.pack(described(), Workload(24, 40)).micro_batches == 2
  kinds = {'all-gather': 5.0}
  fixed = costs.Cost(0.0, 50.0, 5.0, kinds)
  each = costs.Cost(4000.0, 100.0, 0.0, {'all-gather': 0.0})
  found = steps.update(described(), CHIP, work, fixed, each)
  # Two mini-batches.
  assert found['micro_batches'] == 2
  assert found['compute_seconds'] == 2 * 4.0
  assert found['memory_seconds'] == 2 * 1.5
  assert found['links_seconds'] == 2 * 0.5
  assert (found['seconds'], found['bound_by']) == (8.0, 'compute')
  # A prompt of each group, and responses that begin with its last token.
  model = 2 * flops.update(
    described().model,
    [9] * 2 + [21] * 4,
    starts=[0] * 2 + [9] * 4,
    logits=80,
    forwards=int(described().recipe.needs_reference),
  )
  assert found['model_flops'] == model
  assert found['mfu_bound'] == found['mfu_compute'] == model / 8 / 1e3
  assert found['sent_bytes'] == {'all-gather': 10.0}


@pytest.mark.parametrize('rate', [1e9, 1.0])
def test_sampling_by_hand(rate):
  work = Workload(prompt=8, response=16)
  none = {'all-gather': 0.0}
  programs = {
    'gather': costs.Cost(0.0, 0.0, 50.0, none),
    'prefill': costs.Cost(3e3, 0.0, 0.0, none),
    'decode': costs.Cost(0.0, 0.0, 80.0, none),
  }
  chip = CHIP._replace(hbm_rate=rate)
  found = steps.sampling(described(), chip, work, programs)
  # 8 samples in 4 slots: 16 steps twice.
  assert (found['slots'], found['decode_steps']) == (4, 32)
  model = described().model
  token = 2 * model.n_kv_heads * model.head_dim * 4 * model.n_layers
  sums = 8 * model.n_layers * model.n_heads * (model.head_dim + 2) / 32
  # Two samples share a prompt, and a response is half there on average.
  live = 4 * (8 / 2 + 16 / 2)
  weights = memory.held(described().state.params)
  expected = {
    'compute': 4 * flops.per_token(model) / 1e3,
    'memory': (weights + live * (token + sums)) / rate,
    # Of a round of 8.
    'links': 80 / 8 / 1e1,
  }
  one = {name: x / 1e3 for name, x in found['token'].items()}
  assert one == pytest.approx(expected)
  assert found['bound_by'] == ('compute' if rate > 1 else 'memory')
  assert found['gather_seconds'] == 5.0
  # Four prompts in one batch.
  assert found['prefill_seconds'] == 3.0
  whole = 8 + 32 * max(expected.values())
  assert found['seconds'] == pytest.approx(whole)
  step = steps.whole(described(), work, found, {'seconds': 2.0})
  assert step['seconds'] == pytest.approx(whole + 2)
  assert step['tokens_per_second'] == pytest.approx(8 * 16 / (whole + 2))
  assert step['chip_hours'] == pytest.approx((whole + 2) / 3600)


def test_the_best_of_a_sweep():
  make = lambda size, seconds, fits=True: {
    'fits': fits,
    'bytes': size,
    'seconds': seconds,
  }
  tried = [make(4, 4), make(3, 5), make(4, 5), make(1, 1, fits=False)]
  tried.append({'fits': False, 'reason': 'refused'})
  found = [sweep.is_best(each, tried) for each in tried]
  assert found == [True, True, False, False, False]


def test_a_sweep_tries_all_and_says_why_not(monkeypatch, capsys, tmp_path):
  monkeypatch.setattr(topologies, 'chip', lambda name, devices: CHIP)
  flags = (
    '--topology=local',
    '--sweep=train.rows=2,4',
    '--sweep=train.row_length=64,32',
    f'--workdir={tmp_path}',
  )
  assert run(*flags) == 0
  out = capsys.readouterr().out
  found = json.loads((tmp_path / 'summary.json').read_text())['tried']
  assert [list(each['settings'].values()) for each in found] == [
    ['2', '64'],
    ['2', '32'],
    ['4', '64'],
    ['4', '32'],
  ]
  assert 'train.row_length=32 is below' in found[1]['reason']
  assert found[2]['bytes'] > found[0]['bytes']
  assert found[0]['is_best'] and out.count('*') >= 1
  assert 'rows=4 row_length=32: train.row_length=32 is below' in out


def test_the_automatic_sweep():
  config = configuration.load('configs/dler_r1_7b_32k.py')
  assert sweep.automatic(config, 64) == {
    'mesh.tensor': ['1', '2', '4'],
    'train.rows': ['64', '128', '256'],
    'model.remat': ['full', 'dots'],
  }


def test_a_program_without_room_is_named():
  found = {'refused': {}}

  def refuse(_):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: of 16G\nand more')

  assert plan.attempt(found, 'update', refuse, None) is None
  assert found['refused'] == {'update': 'RESOURCE_EXHAUSTED: of 16G'}
  assert plan.fits(found | {'hbm': 1, 'memory': {}}) is False
