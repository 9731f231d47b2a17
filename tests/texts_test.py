"""What the package says of each mistake, word for word.

Beside the tests of what is refused: these are of the messages, each with what
was received, what is allowed and the cure.
"""

import dataclasses
import pathlib
import types

import jax
import numpy as np
import pytest

from lrm_jax import (
  assets,
  checks,
  choosing,
  configuration,
  distributed,
  experiment,
  meeting,
  mesh,
  offloading,
  optim,
  packing,
  policy,
  sft,
  sharding,
  storage,
)
from lrm_jax.objectives import recipe as recipes
from tests.checkpoints.hf_models import refusal
from tests.models import tiny

TINY = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny'
PROCESSES = (distributed.COORDINATOR, distributed.COUNT, distributed.INDEX)
MODEL = tiny.make_config()
TENSOR = types.SimpleNamespace(shape={'tensor': 2})
EIGHT = types.SimpleNamespace(
  shape={'data': 8, 'fsdp': 1, 'expert': 1, 'context': 1}
)


def load(method='grpo', **changes):
  keys = {key.replace('__', '.'): value for key, value in changes.items()}
  return configuration.load(
    TINY / f'{method}.py', [f'config.{k}={v}' for k, v in keys.items()]
  )


def numbers(**changes):
  return lambda: checks.check_numbers(load(**changes))


def sizes(model=MODEL, **changes):
  """Of a config whose model has a window of 2^20 tokens."""
  model = dataclasses.replace(model, max_positions=1 << 20)
  return lambda: checks.check_sizes(load(**changes), model)


def recipe(method, check=checks.check_target, **changes):
  config = load(method, **changes)
  return lambda: check(config, recipes.build(config))


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      numbers(train__rows=0),
      'train.rows=0 must be positive and finite',
    ),
    (
      numbers(sampler__slots=-3),
      'sampler.slots=-3 must be positive and finite',
    ),
    (
      numbers(train__token_budget=-1),
      'train.token_budget=-1 must not be negative (0: none)',
    ),
    (
      numbers(train__temperature=0.0),
      'train.temperature=0.0 must be finite and at least 0.001',
    ),
    (
      numbers(eval__temperature=1e-9),
      'eval.temperature=1e-09 must be finite and at least 0.001, or 0 for the '
      'most likely token',
    ),
    (
      numbers(model__param_dtype='float16'),
      "model.param_dtype='float16': the steps of training are smaller than its "
      "spacing; use 'float32', and compute_dtype for speed, or 'bfloat16', "
      'which is rounded at random',
    ),
    (
      numbers(sampler__kv_dtype='fp4'),
      "sampler.kv_dtype='fp4' is not one of compute, bfloat16, int8",
    ),
    (
      numbers(sampler__round_tokens=12),
      'sampler.round_tokens=12 must be a power of two, at most 32',
    ),
    (
      numbers(sampler__lanes=-1),
      'sampler.lanes=-1 must not be negative (0: as many as there can be)',
    ),
    (
      lambda: checks.check_sizes(load(), MODEL),
      'data.max_prompt_tokens=40 and max_tokens make sequences of 424 tokens; '
      'the window of tiny_lrm is 64; lower one of them',
    ),
    (
      sizes(train__row_length=100),
      'train.row_length=100 is below data.max_prompt_tokens + train.max_tokens '
      '= 296; raise it',
    ),
    (
      sizes(train__rows=1),
      'train.rows=1 is below train.samples=8; a micro-batch must hold a whole '
      'group; raise train.rows',
    ),
    (
      sizes(train__mini_batches=5, train__problems=16),
      'train.mini_batches=5 does not divide train.problems=16; change one of '
      'them',
    ),
    (
      sizes(train__partial_tokens=999),
      'train.partial_tokens=999 is more than a response has: '
      'train.max_tokens=256; give it a part of that, or 0 for whole responses',
    ),
    (
      sizes(train__partial_tokens=9, train__in_flight=2, train__problems=16),
      'train.in_flight=2 with train.partial_tokens=9 must be at least '
      'train.problems=16; twice as many is a good start',
    ),
    (
      sizes(
        train__partial_tokens=9, train__in_flight=32, train__rounds_ahead=1
      ),
      'train.rounds_ahead=1 with train.partial_tokens=9: groups in flight are '
      'kept, so none is let go; set one of them to 0',
    ),
    (
      lambda: checks.check_load_balance('load_balance', -0.5, MODEL),
      'load_balance=-0.5 must be at least 0 (0: none) and finite',
    ),
    (
      lambda: checks.check_load_balance('load_balance', 0.5, MODEL),
      'load_balance=0.5 is for a mixture of experts and the model has none; '
      'set it to 0',
    ),
    (
      lambda: checks.check_mesh('train', {'rows': 12}, EIGHT),
      'train.rows=12 cannot be divided among data=8 x fsdp=1 x expert=1 '
      'devices; choose a multiple of 8',
    ),
    (
      recipe('l1', eval__target=0),
      'eval.target=0: what the prompts of an evaluation ask for; give at least '
      '1 token',
    ),
    (
      recipe('tldr', eval__target=3),
      'eval.target=3: what the prompts of an evaluation ask for; give a level, '
      '0 to 2',
    ),
    (
      recipe('grpo', checks.check_budget, objective__budget__cap=999),
      'objective.budget gives 999 tokens; train.max_tokens allows 1 to 256; '
      'change one of them',
    ),
  ],
)
def test_checks(call, text):
  assert refusal(call) == text


def monitored(**changes):
  config = load('laser_d', **changes)
  return lambda: experiment.split_monitor(
    config, recipes.build(config), [None] * 10
  )


def without_rates():
  config = load('frugal', data__pass_rates='none')
  choosing.make_stream(config, recipes.build(config), [None])


def offloaded(method='grpo', **changes):
  config = load(method, **changes)
  return lambda: offloading.check(
    config, recipes.build(config), jax.devices('cpu')[0]
  )


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      monitored(train__monitor_problems=10),
      'train.monitor_every=8 and train.monitor_problems=10 of 10: the recipe '
      'observes a monitor; give both, and leave problems to train on',
    ),
    (
      without_rates,
      'objective.curriculum goes by pass rates and data.pass_rates is not set; '
      'give the summary.json of an `lrm eval` on these problems',
    ),
    (
      offloaded(train__offload='weights'),
      "train.offload=('weights',): 'weights' is not one of optimizer, "
      'reference',
    ),
    (
      offloaded(train__offload='reference', lora__rank=2),
      "train.offload=('reference',) with lora.rank=2: the reference is the "
      "policy's own base, which sampling needs; leave 'reference' out",
    ),
    (
      offloaded('bnpo', train__offload='reference'),
      "train.offload=('reference',): the recipe looks at no reference; leave "
      "'reference' out",
    ),
    (
      lambda: policy.start(load(lora__path='adapter'), MODEL),
      "lora.path='adapter' with lora.rank=0; give the rank of these adapters, "
      'or no path',
    ),
    (
      lambda: optim.make_optimizer(load(optimizer__name='sgd').optimizer, 1),
      "optimizer.name='sgd' is not one of adamw, muon, spam",
    ),
    (
      lambda: optim.make_optimizer(load(optimizer__schedule='x').optimizer, 1),
      "optimizer.schedule='x' is not one of constant, cosine, linear",
    ),
    (
      lambda: assets.resolve('nobody/nothing'),
      "model 'nobody/nothing': no such directory; give a directory in the "
      'Hugging Face layout, or one of the embedded models: tiny_lrm',
    ),
    (
      lambda: configuration.to_dict({'a': {1, 2}}),
      'config value {1, 2} is a set; allowed: None, bool, int, float, str and '
      'lists of these',
    ),
    (
      lambda: configuration.apply(load(), ['train.steps']),
      "'--train.steps' sets nothing; write --config.KEY=VALUE",
    ),
    (
      lambda: storage.as_path('s3://a/b'),
      "'s3://a/b': not a place that can be read and written; give a folder, or "
      'gs://BUCKET/FOLDER in Google Cloud Storage',
    ),
  ],
)
def test_configs(call, text):
  assert refusal(call) == text


def test_a_device_without_memory_of_its_host():
  config = load(train__offload='optimizer')
  alone = types.SimpleNamespace(
    device_kind='abacus',
    addressable_memories=lambda: [types.SimpleNamespace(kind='wood')],
  )
  call = lambda: offloading.check(config, recipes.build(config), alone)
  assert refusal(call) == (
    "train.offload=('optimizer',): abacus has no memory 'pinned_host' (it has "
    'wood); set train.offload=()'
  )


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (
      lambda: mesh.make({'rows': 2}),
      "mesh: 'rows' is not one of data, fsdp, tensor, context, expert",
    ),
    (
      lambda: mesh.make({'data': 0}),
      'mesh: data=0; sizes are at least 1, and one of them may be -1',
    ),
    (
      lambda: mesh.make({'tensor': 9}, jax.devices()[:1]),
      'mesh: tensor=9 is not for 1 devices; their product must be that number',
    ),
    (
      lambda: sharding._check_divides('head: 37 vocab', 37, 'vocab', TENSOR),
      'head: 37 vocab cannot be divided among tensor=2 devices; choose a '
      'divisor of 37',
    ),
    (
      lambda: distributed.stated({distributed.COUNT: '2'}),
      'LRM_COORDINATOR and LRM_PROCESS not set; several processes need '
      'all of LRM_COORDINATOR, LRM_PROCESSES, LRM_PROCESS, a single '
      'one none',
    ),
    (
      lambda: distributed.stated(
        dict(zip(PROCESSES, ('a:1', 'two', '0'), strict=True))
      ),
      "LRM_PROCESSES='two' and LRM_PROCESS='0' are numbers of "
      'processes; give 2 and 0, for example',
    ),
    (
      lambda: distributed.stated(
        dict(zip(PROCESSES, ('a:1', '2', '2'), strict=True))
      ),
      'LRM_PROCESS=2 of LRM_PROCESSES=2; processes are counted from 0',
    ),
    (
      lambda: distributed.named_hosts({'TPU_PROCESS_ADDRESSES_PATH': 'none'}),
      "TPU_PROCESS_ADDRESSES_PATH='none': No such file or directory; it names "
      'a file with the hosts of this slice',
    ),
    (
      lambda: distributed.start_timeout({'LRM_START_TIMEOUT': 'soon'}),
      "LRM_START_TIMEOUT='soon' is no whole number of seconds from 1 to "
      '999999; without it, 300',
    ),
  ],
)
def test_devices_and_processes(call, text):
  assert refusal(call) == text


def test_processes_that_did_not_come():
  assert str(meeting.missing([1], 'host:1', 3, 5.0)) == (
    'process 1 of 3 did not come to host:1 within 5 s; start all 3, each with '
    'its own number, and let them reach that address'
  )


def test_a_group_that_no_micro_batch_holds():
  error = packing._does_not_fit(np.array([5, 0, 9]), 2, 8)
  assert str(error) == (
    'packing: one group has 2 sequences of up to 9 tokens, a micro-batch has 2 '
    'rows of 8; raise train.row_length or train.rows'
  )


def test_processes_that_do_not_connect(monkeypatch):
  def fail(**_):
    raise RuntimeError('barrier timed out')

  monkeypatch.setattr(distributed.jax.distributed, 'initialize', fail)
  monkeypatch.setattr(distributed.meeting, 'meet', lambda *_: {})
  monkeypatch.setattr(distributed.liveness, 'start', lambda *_: None)
  for name, value in zip(PROCESSES, ('localhost:1', '2', '0'), strict=True):
    monkeypatch.setenv(name, value)
  assert refusal(distributed.initialize) == (
    'JAX does not connect the processes of this run: barrier timed out; start '
    'every one of them, and let them reach the coordinator'
  )


def test_a_bucket_without_a_model(monkeypatch, tmp_path):
  monkeypatch.setattr(storage.importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setattr(storage, 'local_copy', lambda path: tmp_path)
  assert refusal(assets.resolve, 'gs://a/b') == (
    "model 'gs://a/b': no config.json is there; give the folder of a model"
  )


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    (
      {'position_limit': 100},
      'position_limit=100: rows reach 432 tokens; give at least as many '
      'positions, or 0 for those of the tokens',
    ),
    (
      {'eval.max_tokens': 5000},
      'stages and eval reach 5040 tokens; the window of the model, '
      'max_positions, is 1024; lower row_length or max_tokens',
    ),
  ],
)
def test_sizes_of_supervised_training(changes, text):
  config = configuration.load(
    TINY.parent / 'tiny_lrm.py', [f'config.{k}={v}' for k, v in changes.items()]
  )
  assert refusal(sft.check, config) == text
