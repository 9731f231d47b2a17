"""What lies in the memory of a chip, by class, from what XLA says of programs.

Sizes are bytes. What XLA reports includes the padding of its layouts, and so
does every total here; the classes of arguments are counted without it, and
what is left over is `rest`.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

from lrm_jax import offloading
from lrm_jax.planning import hlo
from lrm_jax.planning.compiling import Program, Run
from lrm_jax.sampler import programs as lane_programs

# Of the memory of a chip; the runtime keeps some of it for itself.
USABLE = 0.97


def by_phase(
  run: Run, made: Mapping[str, Program], update: hlo.Module
) -> dict[str, dict[str, int]]:
  """{phase: {class: bytes}}, with the sum as `total`.

  Args:
    run: the run.
    made: its programs; those of the sampler may be left out.
    update: the module of that one.
  """
  found = {'update': of_update(run, made['update'], update)}
  if 'decode' in made:
    pair = [made['prefill'], made['decode']]
    found['sample'] = of_sampling(run, pair)
    found['gather'] = of_gather(run, made['gather'])
  return found


def of_update(run: Run, program: Program, module: hlo.Module) -> dict[str, int]:
  """While the optimizer steps."""
  found = {name: held(tree) for name, tree in program.inputs.items()}
  stats = program.compiled.memory_analysis()
  stacks = activations(run, module)
  return _summed(
    found,
    activations=stacks,
    temporaries=stats.temp_size_in_bytes - stacks,
    rest=_arguments(stats) - sum(found.values()),
  )


def of_sampling(run: Run, programs: list[Program]) -> dict[str, int]:
  """While a sampler runs: what training keeps is there too.

  The programs take turns, each with the temporaries of its own.
  """
  weights = lane_programs.weight_shapes(run.model, run.lanes)
  pools = programs[-1].inputs['keys and values']
  found = {'weights': held(weights), 'keys and values': held(pools)}
  stats = [program.compiled.memory_analysis() for program in programs]
  others = [
    _arguments(each) - held(tuple(program.inputs.values()))
    for each, program in zip(stats, programs, strict=True)
  ]
  return _summed(
    resident(run) | found,
    temporaries=max(each.temp_size_in_bytes for each in stats),
    rest=max(others),
  )


def of_gather(run: Run, program: Program) -> dict[str, int]:
  """While parameters become weights of lanes; both are there."""
  stats = program.compiled.memory_analysis()
  kept = resident(run)
  found = {name: held(tree) for name, tree in program.inputs.items()}
  own = sum(found.values()) + held(
    run.state.params if run.frozen is None else run.frozen
  )
  return _summed(
    kept | found,
    temporaries=stats.temp_size_in_bytes,
    rest=_arguments(stats) - own,
  )


def resident(run: Run) -> dict[str, int]:
  """What training keeps on a device while others work."""
  return {
    'parameters': held((run.state.params, run.frozen)),
    'optimizer': held(run.state.opt_state),
    'reference': held(run.reference),
  }


def held(tree: Any) -> int:
  """Bytes that one device has of arrays, or of their shapes with shardings.

  Not what lies in the memory of the host for it; that is `offloaded`.
  """
  return _bytes(tree, is_host=False)


def offloaded(tree: Any) -> int:
  """Bytes that lie in the memory of the host for one device."""
  return _bytes(tree, is_host=True)


def _bytes(tree: Any, *, is_host: bool) -> int:
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
    if (x.sharding.memory_kind == offloading.HOST) == is_host
  )


def activations(run: Run, module: hlo.Module) -> int:
  """What the layers leave for the backward pass.

  Arrays with an entry for each layer and each place of a row, in the loop over
  layers that has most of them.
  """
  places = run.config.train.row_length // run.mesh.shape['context']
  most = 0
  for visit in hlo.walk(module):
    if visit.instruction.kind == 'while':
      stacks = [
        array.bytes
        for array in visit.instruction.arrays
        if array.shape[:1] == (run.model.n_layers,)
        and places in array.shape[1:]
        and not array.space
      ]
      most = max(most, sum(stacks))
  return most


def _arguments(stats) -> int:
  """What comes in and goes out, what is donated once; and the program."""
  return (
    stats.argument_size_in_bytes
    + stats.output_size_in_bytes
    - stats.alias_size_in_bytes
    + stats.generated_code_size_in_bytes
  )


def _summed(classes: dict[str, int], **others: int) -> dict[str, int]:
  classes = classes | others
  return classes | {'total': sum(classes.values())}
