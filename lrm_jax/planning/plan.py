"""A plan: what a config needs of a topology, all numbers in one dict.

plan(config, topology, workloads)   -> the dict that summary.json has
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from lrm_jax import chips
from lrm_jax import mesh as mesh_lib
from lrm_jax.errors import UserError
from lrm_jax.planning import compiling, costs, hlo, memory, steps, topologies
from lrm_jax.planning.compiling import Run
from lrm_jax.planning.steps import Workload


def plan(
  config: ml_collections.ConfigDict,
  topology: str,
  workloads: Sequence[Workload],
  *,
  samples: bool = True,
) -> dict[str, Any]:
  """Compiles the programs of a run and adds up what they need.

  Args:
    config: of `lrm train`.
    topology: see `topologies.find`.
    workloads: lengths of samples to go by.
    samples: whether the sampler's programs are looked at as well.

  Returns:
    `fits` (None where the memory is not known), `memory` by phase and class in
    bytes, `offloaded`, bytes on the host for each device, `steps`, one for each
    workload, and what they were made of. A program that the compiler finds no
    room for is named in `refused`, with what it says.

  Raises:
    UserError: `lrm train` would refuse the config, or there is no such
      topology.
  """
  if config.train.batches_ahead:
    raise UserError(
      'train.batches_ahead=1: a plan knows nothing of the second copy of the '
      'policy, nor of the sampler beside the update; plan with 0, and leave '
      'room for them'
    )
  devices = topologies.find(topology)
  chip = topologies.chip(topology, devices)
  run = compiling.describe(config, devices)
  check_lengths(run, workloads)
  found = {
    'topology': topology,
    'chips': len(devices),
    'hbm': topologies.capacity(topology, devices),
    'mesh': dict(run.mesh.shape),
    'parameters': count_parameters(run),
    'offloaded': memory.offloaded((run.state.opt_state, run.reference)),
    'refused': {},
    'memory': {},
  }
  made, modules = {}, {}
  for name, compile_it in compiling.ALL if samples else compiling.UPDATE:
    made[name] = attempt(found, name, compile_it, run)
    if made[name] is not None:
      modules[name] = hlo.parse(made[name].compiled.as_text())
  if not found['refused']:
    found['memory'] = memory.by_phase(run, made, modules['update'])
  found['fits'] = fits(found)
  is_counted = mesh_lib.platform_of(run.mesh) != 'gpu'  # Its libraries are not.
  if not found['refused'] and chip is not None and is_counted:
    found['steps'] = [of_step(run, chip, work, modules) for work in workloads]
  return found


def attempt(found: dict[str, Any], name: str, compile_it: Any, run: Run) -> Any:
  """What it compiles to; None, and the reason, if there is no room for it."""
  try:
    return compile_it(run)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    found['refused'][name] = str(error).splitlines()[0]
    return None


def fits(found: dict[str, Any]) -> bool | None:
  """Whether every phase has room; None where nobody knows how much there is."""
  if found['refused']:
    return False
  if found['hbm'] is None:
    return None
  most = max(phase['total'] for phase in found['memory'].values())
  return most <= memory.USABLE * found['hbm']


def of_step(
  run: Run, chip: chips.Chip, work: Workload, modules: Mapping[str, hlo.Module]
) -> dict[str, Any]:
  """Times of a step whose samples have these lengths."""
  fixed, one = (costs.of(modules['update'], unknown=n) for n in (0, 1))
  updated = steps.update(run, chip, work, fixed, one.plus(fixed, -1))
  found = {**work._asdict(), 'update': updated}
  if 'decode' in modules:
    others = {n: costs.of(m) for n, m in modules.items() if n != 'update'}
    found['sample'] = steps.sampling(run, chip, work, others)
    found['step'] = steps.whole(run, work, found['sample'], updated)
  return found


def check_lengths(run: Run, workloads: Sequence[Workload]) -> None:
  """Refuses samples that a run has no room for."""
  config = run.config
  for work in workloads:
    for name, value, room in (
      ('response_tokens', work.response, config.train.max_tokens),
      ('prompt_tokens', work.prompt, config.data.max_prompt_tokens),
    ):
      if not 0 < value <= room:
        raise UserError(
          f'--{name}={value} is not between 1 and {room}, which the config has '
          'room for; give others, or raise the config'
        )


def count_parameters(run: Run) -> int:
  """Of the policy: adapters and what they are on."""
  trees = run.state.params, run.frozen
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(trees))
