"""Slices of TPUs, by their topology, and how Google Cloud calls them."""

import math
import sys
from typing import NamedTuple


class Generation(NamedTuple):
  """How Google Cloud calls a generation of TPUs.

  Attributes:
    accelerator: with `{}` for the number in the name of a slice.
    cores: that this number counts for each chip.
    runtime: the image of its virtual machines.
    node: the label of its nodes in Kubernetes.
    chips: of a host in a slice of several.
  """

  accelerator: str
  cores: int
  runtime: str
  node: str
  chips: int


GENERATIONS = {
  'v4': Generation('v4-{}', 2, 'tpu-ubuntu2204-base', 'tpu-v4-podslice', 4),
  'v5e': Generation(
    'v5litepod-{}', 1, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice', 4
  ),
  'v5p': Generation('v5p-{}', 2, 'v2-alpha-tpuv5', 'tpu-v5p-slice', 4),
  'v6e': Generation('v6e-{}', 1, 'v2-alpha-tpuv6e', 'tpu-v6e-slice', 4),
}


class Slice(NamedTuple):
  """A topology such as `v5e:4x4`, taken apart."""

  generation: Generation
  grid: str
  chips: int

  @property
  def accelerator(self) -> str:
    """Its name, such as v5litepod-16."""
    count = self.chips * self.generation.cores
    return self.generation.accelerator.format(count)

  @property
  def hosts(self) -> int:
    """Virtual machines, or pods in Kubernetes."""
    return -(-self.chips // self.generation.chips)


def parse_topology(text: str) -> Slice:
  """`v5p:4x4x8` -> a Slice; SystemExit(2) with a line for anything else."""
  name, _, grid = text.partition(':')
  sides = grid.split('x')
  is_grid = len(sides) in (2, 3) and all(side.isdecimal() for side in sides)
  if name not in GENERATIONS or not is_grid or '0' in sides:
    print(
      f'launch: error: --topology={text!r} is not one of '
      f'{", ".join(GENERATIONS)} with its grid, such as v5e:4x4 or v5p:4x4x8',
      file=sys.stderr,
    )
    raise SystemExit(2)
  return Slice(GENERATIONS[name], grid, math.prod(map(int, sides)))
