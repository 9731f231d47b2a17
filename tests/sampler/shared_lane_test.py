"""Lanes of several devices: the samples of one device, and what is refused."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from lrm_jax import mesh as mesh_lib
from lrm_jax import rng, sharding
from lrm_jax.errors import UserError
from lrm_jax.models.config import Experts
from lrm_jax.sampler import decode_sharding, engine
from lrm_jax.sampler.truncation_rules import Rules
from tests import eight_devices
from tests.models import tiny

ROOT = pathlib.Path(__file__).parents[2]
PROMPTS, CAP = 9, 30
# Two key/value heads for each of four devices, and three ids that do not exist.
CONFIG = tiny.make_config(
  n_layers=1,
  n_heads=16,
  n_kv_heads=8,
  vocab_size=40,
  used_vocab=37,
  qkv_bias=True,
  tie_embeddings=False,
  max_positions=128,
)
# Changes of the model, of the sampler, devices of a lane, the mesh of training.
CASES = {
  'as in training': ({}, {}, 2, {'fsdp': 4, 'tensor': 2}),
  'more than in training': ({}, {}, 4, {'fsdp': 4, 'tensor': 2}),
  'alibi, tied': (
    {'positions': 'alibi', 'tie_embeddings': True},
    {'kv_dtype': 'int8'},
    4,
    {'fsdp': 8},
  ),
  'hard alibi': ({'positions': 'hard_alibi'}, {}, 2, {'fsdp': 8}),
  't5, truncated': (
    {'positions': 't5'},
    {'rules': Rules(top_k=7), 'keep_sets': True},
    2,
    {'data': 2, 'fsdp': 2, 'tensor': 2},
  ),
  'experts': (
    {'family': 'lrm', 'experts': Experts(4, 2, 12), 'qkv_bias': False},
    {},
    2,
    {'expert': 4, 'tensor': 2},
  ),
}


def make_sampler(config, **options):
  return engine.Sampler(
    config,
    samples=2,
    slots=16,
    max_prompt_tokens=40,
    max_tokens=CAP,
    eos_ids=(5,),
    pad_id=0,
    think_close_ids=(9,),
    **options,
  )


def generate(sampler, params):
  random = np.random.default_rng(0)
  return sampler.generate(
    params,
    random.integers(0, 37, (PROMPTS, 40)).astype(np.int32),
    random.integers(1, 40, PROMPTS).astype(np.int32),
    problem_ids=[f'problem {i}' for i in range(PROMPTS)],
    caps=CAP,
    key=rng.stream(0, 'test'),
    # Drawn ones beside most likely ones.
    temperature=np.arange(PROMPTS) % 3 * 0.5,
  )


def check(name):
  """How samples on 8 devices differ from those on one."""
  changes, options, tensor, sizes = CASES[name]
  config = dataclasses.replace(CONFIG, **changes)
  params = tiny.make_params(config)
  expected = generate(make_sampler(config, lanes=1, **options), params)
  mesh = mesh_lib.make(sizes)
  placed = jax.device_put(params, sharding.parameter_shardings(config, mesh))
  sampler = make_sampler(config, mesh=mesh, tensor=tensor, **options)
  found = generate(sampler, placed)
  pool = sampler._states[0].response_pools[0][0].k
  return {
    'lanes': sampler.lanes,
    'heads': pool.addressable_shards[0].data.shape[2],
    'lengths': sorted(set(expected.length.flat)),
    'ids': bool((found.response_ids == expected.response_ids).all()),
    'kept': bool((found.kept_ids == expected.kept_ids).all()),
    'logp': float(np.abs(found.logp - expected.logp).max()),
    # Of one device, and so divided by the sampler.
    'again': bool(
      (generate(sampler, params).response_ids == expected.response_ids).all()
    ),
  }


# `mesh_run_test.py` has short runs on such lanes with every change.
@pytest.mark.long
def test_the_samples_of_one_device():
  done = eight_devices.run('tests.sampler.shared_lane_test')
  found = [json.loads(line) for line in done.stdout.splitlines()]
  for row, (name, case) in zip(found, CASES.items(), strict=True):
    tensor = case[2]
    assert row['lanes'] == 8 // tensor and row['heads'] == 8 // tensor, name
    # Some end by themselves, others at the cap.
    assert len(row['lengths']) > 2 and row['lengths'][-1] == CAP, name
    assert row['ids'] and row['kept'] and row['again'], name
    assert row['logp'] <= 1e-5, name


@dataclasses.dataclass(frozen=True)
class Device:
  """Of which only the process is looked at."""

  id: int
  process_index: int
  platform: str = 'cpu'


def test_devices_that_do_not_come_out_even():
  with pytest.raises(UserError, match='sampler.tensor=3 does not divide 8'):
    decode_sharding.lanes_of(jax.devices()[:1] * 8, 3)


def test_a_lane_in_two_processes():
  devices = [Device(i, i // 2) for i in range(8)]
  with pytest.raises(UserError, match='sampler.tensor=4 .* two processes'):
    decode_sharding.lanes_of(devices, 4)


def test_lanes_without_a_mesh():
  with pytest.raises(UserError, match='sampler.tensor=2 .* only one'):
    make_sampler(CONFIG, tensor=2)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'n_kv_heads': 4}, 'sampler.tensor=8: model: n_kv_heads=4'),
    ({'n_heads': 20, 'n_kv_heads': 20}, 'sampler.tensor=8: model: n_heads=20'),
    ({}, 'sampler.tensor=8: layers/mlp/.*: 20 inner'),
    ({'d_ff': 24, 'vocab_size': 37}, 'sampler.tensor=8: embedding: 37 vocab'),
  ],
)
def test_models_that_cannot_be_divided(changes, words):
  config = dataclasses.replace(CONFIG, **{'d_ff': 20} | changes)
  mesh = mesh_lib.make({'fsdp': 8}, jax.devices()[:1] * 8)
  with pytest.raises(UserError, match=words):
    make_sampler(config, mesh=mesh, tensor=8)


if __name__ == '__main__':
  for each in CASES:
    print(json.dumps(check(each), default=int))
