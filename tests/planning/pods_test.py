"""The configs of pods, on the chips that they are for; nothing is compiled.

What a chip holds between programs has to leave room for what these need.
"""

import functools
import math
import typing

import jax
import pytest

from lrm_jax import chips, configuration
from lrm_jax.checkpoints import key_maps
from lrm_jax.planning import compiling, memory, topologies
from lrm_jax.sampler import programs

pytest.importorskip('libtpu', reason="no compiler: pip install 'lrm_jax[plan]'")


class Pod(typing.NamedTuple):
  """What a config makes of a pod.

  Attributes:
    topology: of the pod.
    mesh: devices along fsdp and context; 1 along all other axes.
    parameters: of the model, and those that a chip holds of them to train.
    lanes: of the sampler, and chips of each.
    slots: of a lane.
    pages: of a lane, for prompts and for responses.
  """

  topology: str
  mesh: tuple[int, int]
  parameters: tuple[int, int]
  lanes: tuple[int, int]
  slots: int
  pages: tuple[int, int]


# A chip has all `small` parameters, norms and biases, and its part of others:
# of the 1.5B 1536 + 28 * (3 * 1536 + 2 * 256) = 144_896 are small, and
# 144_896 + (1_777_088_000 - 144_896) / 16 = 111_203_840.
PODS = {
  'dler_r1_1p5b': Pod(
    topology='v5e:4x4',
    mesh=(16, 1),
    parameters=(1_777_088_000, 111_203_840),
    lanes=(16, 1),
    slots=64,
    pages=(320, 8_750),
  ),
  'dler_r1_7b': Pod(
    topology='v5p:4x4x4',
    mesh=(64, 1),
    parameters=(7_615_616_512, 119_322_112),
    lanes=(64, 1),
    slots=128,
    pages=(576, 32_812),
  ),
  'dler_r1_7b_32k': Pod(
    topology='v5p:4x4x4',
    mesh=(64, 1),
    parameters=(7_615_616_512, 119_322_112),
    lanes=(64, 1),
    slots=32,
    pages=(192, 32_768),
  ),
  'drpo_r1_7b': Pod(
    topology='v6e:8x8',
    mesh=(64, 1),
    parameters=(7_615_616_512, 119_322_112),
    lanes=(16, 4),
    slots=64,
    pages=(576, 17_500),
  ),
  'siri_qwen3_8b': Pod(
    topology='v5p:4x4x4',
    mesh=(64, 1),
    parameters=(8_190_735_360, 128_283_648),
    lanes=(64, 1),
    slots=16,
    pages=(192, 8_192),
  ),
  'dler_r1_32b': Pod(
    topology='v5p:4x4x8',
    mesh=(128, 1),
    parameters=(32_763_876_352, 257_078_272),
    lanes=(32, 4),
    slots=128,
    pages=(576, 32_875),
  ),
}
every_pod = pytest.mark.parametrize('name', PODS)


@functools.cache
def described(name):
  config = configuration.load(f'configs/{name}.py')
  return compiling.describe(config, topologies.find(PODS[name].topology))


@every_pod
def test_what_a_chip_trains(name):
  pod, run = PODS[name], described(name)
  fsdp, context = pod.mesh
  assert dict(run.mesh.shape) == {
    'data': 1,
    'fsdp': fsdp,
    'tensor': 1,
    'context': context,
    'expert': 1,
  }
  leaves = jax.tree.leaves(run.state.params)
  own = [x.sharding.shard_shape(x.shape) for x in leaves]
  assert (
    sum(math.prod(x.shape) for x in leaves),
    sum(map(math.prod, own)),
  ) == pod.parameters


@every_pod
def test_only_norms_and_biases_are_whole(name):
  run = described(name)
  parts = {True: run.mesh.shape['fsdp'], False: 1}
  for path, x in key_maps.flatten(run.state.params):
    is_divided = path[-1] not in ('scale', 'bias')
    own = math.prod(x.sharding.shard_shape(x.shape))
    assert own * parts[is_divided] == math.prod(x.shape), path


@every_pod
def test_lanes_of_the_sampler(name):
  pod, run = PODS[name], described(name)
  lanes, tensor = pod.lanes
  assert dict(run.lanes.shape) == {'lanes': lanes, 'tensor': tensor}
  # All chips, each in one lane.
  assert set(run.lanes.devices.flat) == set(run.mesh.devices.flat)
  layout = run.layout
  assert layout.slots == layout.limit == pod.slots
  assert (layout.prompt_pages, layout.response_pages) == pod.pages
  # The longest response fits, or nothing would ever come of it.
  assert layout.response_pages >= layout.pages_of_response


@every_pod
def test_what_a_chip_keeps_fits(name):
  pod, run = PODS[name], described(name)
  weights = programs.weight_shapes(run.model, run.lanes)
  state = programs.state_shapes(run.model, run.layout, run.lanes)
  held = memory.resident(run) | {
    'weights': memory.held(weights),
    'keys and values': memory.held((state.prompt_pools, state.response_pools)),
  }
  own = pod.parameters[1]
  # float32, and two moments; the reference is there where one is asked for.
  assert held['parameters'] == 4 * own
  assert 8 * own <= held['optimizer'] <= 8 * own + 100
  assert held['reference'] == (4 * own if run.recipe.needs_reference else 0)
  hbm = chips.CHIPS[pod.topology.partition(':')[0]].hbm
  assert sum(held.values()) < 0.97 * hbm, held
