"""What accelerators can do, as their makers say.

The kinds are those of `jax.Device.device_kind`; for TPUs as JAX's own table
has them, `jax/_src/pallas/mosaic/tpu_info.py`.
"""

from typing import NamedTuple

import jax

GIB = 2**30


class Chip(NamedTuple):
  """One device of JAX; numbers of its maker, not measured.

  That is a whole chip, with both cores of a TPU v4 or v5p; of a TPU7x it is a
  half, which is one of the two cores that its runtime shows.

  Attributes:
    kinds: what JAX calls it, by version.
    flops: FLOPs a second in dense products of bfloat16; a multiply-add is two.
    hbm: bytes of memory.
    hbm_rate: bytes a second of it.
    link_rate: bytes a second to other chips, all links together, one way.
  """

  kinds: tuple[str, ...]
  flops: float
  hbm: float
  hbm_rate: float
  link_rate: float


# docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, read in November 2026,
# which give links both ways together; those of v4 from Jouppi et al. 2023
# (arXiv 2304.01433): 6 of 50 GB/s. HBM of the TPU7x from JAX's table. NVIDIA's
# data sheets: SXM, without sparsity.
CHIPS = {
  'v4': Chip(('TPU v4',), 275e12, 32 * GIB, 1200e9, 300e9),
  'v5e': Chip(('TPU v5 lite', 'TPU v5e'), 197e12, 16 * GIB, 819e9, 200e9),
  'v5p': Chip(('TPU v5', 'TPU v5p'), 459e12, 95 * GIB, 2765e9, 600e9),
  'v6e': Chip(('TPU v6 lite', 'TPU v6e'), 918e12, 32 * GIB, 1638e9, 400e9),
  'tpu7x': Chip(('TPU7x',), 2307e12 / 2, 96 * GIB, 7400e9 / 2, 600e9 / 2),
  'a100': Chip(('NVIDIA A100-SXM4-80GB',), 312e12, 80e9, 2039e9, 600e9 / 2),
  'a100-40gb': Chip(
    ('NVIDIA A100-SXM4-40GB',), 312e12, 40e9, 1555e9, 600e9 / 2
  ),
  'h100': Chip(('NVIDIA H100 80GB HBM3',), 989e12, 80e9, 3350e9, 900e9 / 2),
  'h200': Chip(('NVIDIA H200',), 989e12, 141e9, 4800e9, 900e9 / 2),
}


def of_device(device: jax.Device) -> Chip | None:
  """The chip of a device; None for one that is not in the table."""
  kind = device.device_kind
  return next((chip for chip in CHIPS.values() if kind in chip.kinds), None)
