"""Devices that are not there, by the name of their topology."""

import functools
import os

import jax
import numpy as np

from lrm_jax import chips
from lrm_jax.errors import UserError

# The devices of this machine, whatever they are.
LOCAL = 'local'
# Those whose compiler shows a chip as one device.
NAMES = ('v5e', 'v5p', 'v6e')
# The compiler shall look neither for chips nor for who else uses some.
NO_CHIPS = {
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5p-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_STDERR_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
}


@functools.cache
def find(name: str) -> tuple[jax.Device, ...]:
  """The devices of a topology such as `v5p:4x4x4`, or of this machine.

  For those that are not here programs can be compiled, and not run.

  Raises:
    UserError: no such topology, or no compiler for it.
  """
  if name == LOCAL:
    return tuple(jax.devices())
  family, _, grid = name.partition(':')
  if family not in NAMES or not grid:
    raise UserError(
      f'--topology={name!r} is not one of {", ".join(NAMES)} with its grid, '
      f'such as v5e:4x4 or v5p:4x4x4, nor {LOCAL!r}'
    )
  for variable, value in NO_CHIPS.items():
    os.environ.setdefault(variable, value)
  from jax.experimental import topologies

  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=name)
  except Exception as error:  # noqa: BLE001 - it raises what its plugin likes.
    reason = str(error).partition('\n')[0]
    raise UserError(
      f'--topology={name!r}: {reason}; give a grid that there is, and install '
      "its compiler: pip install 'lrm_jax[plan]'"
    ) from None
  return tuple(np.asarray(found.devices).flat)


def capacity(name: str, devices: tuple[jax.Device, ...]) -> int | None:
  """Bytes of memory of a device; None where nobody knows.

  Of a device here, what JAX may take of it.
  """
  stats = devices[0].memory_stats() if name == LOCAL else None
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit']
  known = chip(name, devices)
  return None if known is None else int(known.hbm)


def chip(name: str, devices: tuple[jax.Device, ...]) -> chips.Chip | None:
  """What a device of a topology can do; None where nobody has said."""
  known = chips.CHIPS.get(name.partition(':')[0])
  return chips.of_device(devices[0]) if known is None else known
