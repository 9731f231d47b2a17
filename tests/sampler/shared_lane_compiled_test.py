"""What the devices of a lane tell each other: sums, and no array whole."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest
from jax.sharding import NamedSharding

from lrm_jax import mesh as mesh_lib
from lrm_jax.checkpoints import key_maps
from lrm_jax.sampler import decode_sharding, layout, programs
from tests.models import tiny

ROOT = pathlib.Path(__file__).parents[2]
# Sizes that are not those of anything else.
LAYERS, WIDTH, VOCAB, SLOTS, TENSOR = 2, 24, 104, 16, 4
CONFIG = tiny.make_config(
  n_layers=LAYERS,
  d_model=WIDTH,
  n_heads=16,
  n_kv_heads=8,
  d_ff=40,
  vocab_size=VOCAB,
  tie_embeddings=False,
)
LAYOUT = layout.make_layout(
  tensor=TENSOR,
  samples=2,
  fewest_samples=2,
  at_once=0,
  slots=SLOTS,
  max_prompt_tokens=32,
  max_tokens=40,
  kv_tokens=0,
  eos_ids=(5,),
  close_ids=(9,),
  ending_ids=(),
  rules=(),
  most=None,
  kept=0,
  round_tokens=8,
  kv_dtype='compute',
)
COLLECTIVE = re.compile(
  r'= \(?(\w+\[[\d,]*\]).*? '
  r'(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)'
  r'(?:-start)?\('
)


def found(lowered) -> list[tuple[str, str]]:
  """[(collective, shape of its first result)] of a compiled program."""
  text = lowered.compile().as_text()
  # Otherwise it is written in another way than this looks for.
  assert ' while(' in text or ' fusion(' in text
  return [(kind, shape) for shape, kind in COLLECTIVE.findall(text)]


def check():
  """{program: its collectives}, of 4 devices."""
  lanes = decode_sharding.lanes_of(jax.devices(), TENSOR)
  weights = programs.weight_shapes(CONFIG, lanes)
  state = programs.state_shapes(CONFIG, LAYOUT, lanes)
  asked = programs.request_shapes(LAYOUT, lanes)
  ((_, batch),) = programs.batch_shapes(LAYOUT, lanes).items()
  chunk = programs.chunk(CONFIG, LAYOUT, lanes)
  yield 'chunk', found(chunk.lower(weights.turned, state, asked))
  prefill = programs.prefill(CONFIG, LAYOUT, lanes)
  yield 'prefill', found(prefill.lower(weights.of_prompts, state, batch))
  for name, sizes in (
    ('gather', {'fsdp': 4}),
    ('gather of the same', {'tensor': 4}),
  ):
    mesh = mesh_lib.make(sizes)
    params = jax.tree.map(
      lambda x, spec: jax.ShapeDtypeStruct(
        x.shape,
        x.dtype,
        sharding=NamedSharding(mesh, spec),  # noqa: B023
      ),
      key_maps.shapes(CONFIG),
      decode_sharding.stacked_specs(CONFIG, mesh),
    )
    program = programs.gather(CONFIG, mesh, lanes)
    yield name, found(program.lower(params))


@pytest.fixture(scope='module')
def collectives():
  done = subprocess.run(
    [sys.executable, '-m', 'tests.sampler.shared_lane_compiled_test'],
    cwd=ROOT,
    env=os.environ
    | {
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={TENSOR}',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = map(json.loads, done.stdout.splitlines())
  return {name: sorted(map(tuple, found)) for name, found in rows}


# Of the embedding, and behind `o` and `down` of each layer.
SUMS = 1 + 2 * LAYERS


def test_a_token_is_two_sums_a_layer(collectives):
  """And its logits change places once; then all hear what was drawn."""
  assert collectives['chunk'] == sorted(
    [
      ('all-to-all', f'f32[{SLOTS // TENSOR},{VOCAB // TENSOR}]'),
      ('all-gather', f's32[{SLOTS}]'),
      ('all-gather', f'f32[{SLOTS}]'),
      *[('all-reduce', f'f32[{SLOTS},{WIDTH}]')] * SUMS,
      # Of all lanes: whether any goes on, and which width is enough.
      *[('all-reduce', 's32[]')] * 2,
    ]
  )


def test_a_prompt_too(collectives):
  assert (
    collectives['prefill'] == [('all-reduce', f'f32[16,32,{WIDTH}]')] * SUMS
  )


def test_weights_are_sent_a_layer_at_a_time(collectives):
  sent = collectives['gather']
  assert {kind for kind, _ in sent} == {'all-gather'}
  # q, k, v, o, gate, up and down of each layer, the embedding and the head.
  assert len(sent) == 7 * LAYERS + 2
  stacked = {
    x.shape for x in jax.tree.leaves(key_maps.shapes(CONFIG)['layers'])
  }
  sizes = {tuple(map(int, re.findall(r'[\d]+', s[3:]))) for _, s in sent}
  assert not sizes & stacked
  assert not any(len(size) > 2 and size[0] == LAYERS for size in sizes)


def test_weights_that_lie_as_they_are_needed_stay(collectives):
  assert collectives['gather of the same'] == []


if __name__ == '__main__':
  for row in check():
    print(json.dumps(row))
