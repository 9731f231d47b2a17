"""Devices by the names that JAX gives them."""

import types

import jax
import pytest

from lrm_jax import chips


@pytest.mark.parametrize(
  ('kind', 'name', 'teraflops'),
  [
    ('TPU v4', 'v4', 275),
    ('TPU v5 lite', 'v5e', 197),
    ('TPU v5', 'v5p', 459),
    ('TPU v5p', 'v5p', 459),
    ('TPU v6 lite', 'v6e', 918),
    # Two devices are a chip of 2307.
    ('TPU7x', 'tpu7x', 1153.5),
    ('NVIDIA A100-SXM4-80GB', 'a100', 312),
    ('NVIDIA H100 80GB HBM3', 'h100', 989),
    ('NVIDIA H200', 'h200', 989),
  ],
)
def test_kinds_and_peaks(kind, name, teraflops):
  chip = chips.of_device(types.SimpleNamespace(device_kind=kind))
  assert chip is chips.CHIPS[name]
  assert chip.flops == teraflops * 1e12


def test_every_kind_is_of_one_chip():
  kinds = [kind for chip in chips.CHIPS.values() for kind in chip.kinds]
  assert len(kinds) == len(set(kinds))


def test_a_device_that_is_not_known_has_no_chip():
  assert chips.of_device(types.SimpleNamespace(device_kind='TPU v5e8')) is None
  assert chips.of_device(jax.devices('cpu')[0]) is None
