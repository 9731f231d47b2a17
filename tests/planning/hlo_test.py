"""Programs and their collectives, read from text."""

import pathlib

import pytest

from lrm_jax.planning import hlo

HERE = pathlib.Path(__file__).parent
# A loop of 28 around a gather, in a loop whose count nobody knows.
LOOPS = hlo.parse((HERE / 'two_loops.hlo').read_text())
# As the compiler for TPUs writes: a loop by twos, groups by axes of a mesh,
# one gather in two kernels, spaces of memory.
RING = hlo.parse((HERE / 'ring.hlo').read_text())


def test_each_counts_as_often_as_it_runs():
  found = hlo.collectives(LOOPS, unknown=3)
  by_shape = {each.shapes[0]: each for each in found}
  assert len(found) == len(by_shape) == 5
  gather = by_shape[(8, 16)]
  assert gather == ('all-gather', 512, 84, 4, 2, ('f32',), ((8, 16),))
  fused = by_shape[(4, 16)]
  assert (fused.bytes, fused.times, fused.group) == (128, 84, 2)
  assert by_shape[(8,)][:5] == ('all-gather', 32, 1, 4, 0)
  assert by_shape[(10,)][:5] == ('reduce-scatter', 10, 1, 8, 0)
  assert by_shape[(8, 4)][:5] == ('all-reduce', 128, 1, 8, 0)


@pytest.mark.parametrize(
  ('shape', 'sent'),
  [
    # 3 of 4 parts of 512 bytes, 84 times.
    ((8, 16), 384 * 84),
    ((4, 16), 64 * 84),
    ((8,), 24),
    # What it gives is an eighth of what it is given.
    ((10,), 70),
    ((8, 4), 224),
  ],
)
def test_what_a_device_sends(shape, sent):
  (found,) = (x for x in hlo.collectives(LOOPS, 3) if x.shapes[0] == shape)
  assert found.sent == sent


def test_a_loop_that_counts_by_twos_runs_half_as_often():
  (permute,) = (
    x for x in hlo.collectives(RING) if x.kind == 'collective-permute'
  )
  # i < 8 by 2, and what it gives is the second of the four.
  assert (permute.times, permute.bytes, permute.depth) == (4, 2 * 6 * 2, 1)
  assert permute.sent == 4 * 24


def test_a_gather_in_two_kernels_is_one():
  gathers = [x for x in hlo.collectives(RING) if x.kind == 'all-gather']
  assert [(x.group, x.bytes, x.depth) for x in gathers] == [(8, 8 * 6 * 4, 0)]


def test_spaces_of_memory():
  loop = next(
    visit.instruction
    for visit in hlo.walk(RING)
    if visit.instruction.kind == 'while'
  )
  assert [array.space for array in loop.arrays] == [0, 1, 0]
  assert loop.arrays[1] == ('bf16', (4, 6), 1)


def test_what_stands_in_a_kernel_is_marked():
  kinds = {
    visit.instruction.kind: visit.is_fused
    for visit in hlo.walk(RING)
    if visit.instruction.kind in ('convolution', 'fusion')
  }
  assert kinds == {'convolution': True, 'fusion': False}
