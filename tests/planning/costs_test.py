"""Operations and bytes of programs, by hand and of some that are compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.planning import costs, hlo


def module(*lines: str, others: str = '') -> hlo.Module:
  """A program of these lines."""
  body = '\n'.join(f'  {line}' for line in lines)
  return hlo.parse(f'{others}\nENTRY %main (x: f32[]) -> f32[] {{\n{body}\n}}')


@pytest.mark.parametrize(
  ('line', 'pairs'),
  [
    # [5, 7] by [7, 3].
    ('f32[5,3]{1,0} dot(%l, %r), lhs_contracting_dims={1}', 5 * 3 * 7),
    # Two taps along an axis that both have: the product of a ring.
    (
      'f32[5,3,1]{1,0,2} convolution(%w, %v), window={size=2}, '
      'dim_labels=b0f_0io->bf0',
      5 * 3 * 7 * 2,
    ),
    # An axis of a batch of 4: every place meets one tap.
    (
      'f32[4,5,3]{2,1,0} convolution(%b, %c), '
      'window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf',
      4 * 5 * 3 * 7,
    ),
  ],
)
def test_operations_of_products(line, pairs):
  found = module(
    '%l = f32[5,7]{1,0} parameter(0)',
    '%r = f32[7,3]{1,0} parameter(1)',
    '%w = f32[5,2,7]{2,1,0} parameter(2)',
    '%v = f32[2,7,3]{2,1,0} parameter(3)',
    '%b = f32[4,5,7]{2,1,0} parameter(4)',
    '%c = f32[4,7,3]{2,1,0} parameter(5)',
    f'ROOT %out = {line}',
  )
  assert costs.of(found).flops == 2 * pairs


@pytest.mark.parametrize(
  ('dtype', 'precision', 'passes'),
  [
    ('f32', 'highest', 6),
    ('f32', 'high', 3),
    ('f32', 'default', 1),
    ('bf16', 'highest', 1),
  ],
)
def test_float32_takes_several_passes(dtype, precision, passes):
  found = module(
    f'%l = {dtype}[5,7]{{1,0}} parameter(0)',
    f'%r = {dtype}[7,3]{{1,0}} parameter(1)',
    f'ROOT %out = f32[5,3]{{1,0}} convolution(%l, %r), dim_labels=bf_io->bf, '
    f'operand_precision={{{precision},{precision}}}',
  )
  assert costs.of(found).flops == 2 * 5 * 7 * 3 * passes


@pytest.mark.parametrize(
  ('name', 'products'),
  [('mha_fwd_residuals', 2), ('mha_dq', 3), ('mha_dkv', 4)],
)
def test_operations_of_splash(name, products):
  found = module(
    f'ROOT %splash_{name}.1 = bf16[6,512,128]{{2,1,0}} custom-call(%a), '
    'custom_call_target="tpu_custom_call", operand_layout_constraints={'
    's8[1,4,4]{2,1,0}, bf16[6,512,128]{2,1,0}, bf16[2,512,128]{2,1,0}, '
    'bf16[2,512,128]{2,1,0}, s32[512,128]{1,0}}, backend_config={}'
  )
  # Of 4 x 4 blocks, 10 are seen.
  assert costs.of(found).flops == products * 2 * 6 * 512 * 512 * 128 * 10 / 16


def test_a_kernel_that_nobody_knows_is_not_free():
  found = module(
    'ROOT %another.1 = f32[8]{0} custom-call(%a), '
    'custom_call_target="tpu_custom_call"'
  )
  with pytest.raises(ValueError, match="kernel 'another.1' cost"):
    costs.of(found)


def test_a_slice_in_a_kernel_in_a_kernel():
  inner = """
%inner (p: f32[9,100], i: s32[]) -> f32[1,100] {
  %q = f32[9,100]{1,0} parameter(0)
  %j = s32[] parameter(1)
  %bits = f32[9,100]{1,0} bitcast(%q)
  ROOT %slice = f32[1,100]{1,0} dynamic-slice(%bits, %j, %j)
}

%outer (p: f32[9,100], i: s32[], u: f32[9,100]) -> f32[9,100] {
  %p = f32[9,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %u = f32[9,100]{1,0} parameter(2)
  %row = f32[1,100]{1,0} fusion(%p, %i), kind=kLoop, calls=%inner
  ROOT %update = f32[9,100]{1,0} dynamic-update-slice(%u, %row, %i, %i)
}
"""
  found = module(
    '%p = f32[9,100]{1,0} parameter(0)',
    '%i = s32[] parameter(1)',
    '%u = f32[9,100]{1,0} parameter(2)',
    'ROOT %all = f32[9,100]{1,0} fusion(%p, %i, %u), kind=kLoop, calls=%outer',
    others=inner,
  )
  # A row out of nine, the index, and a row in.
  assert costs.of(found).hbm == 400 + 4 + 400


def test_memory_is_what_crosses_it():
  fused = """
%part (p: f32[9,100], i: s32[]) -> f32[100] {
  %p = f32[9,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %slice = f32[1,100]{1,0} dynamic-slice(%p, %i, %i)
}

%put (p: f32[9,100], u: f32[1,100]) -> f32[9,100] {
  %p = f32[9,100]{1,0} parameter(0)
  %u = f32[1,100]{1,0} parameter(1)
  %i = s32[] constant(3)
  ROOT %update = f32[9,100]{1,0} dynamic-update-slice(%p, %u, %i, %i)
}
"""
  found = module(
    '%p = f32[9,100]{1,0} parameter(0)',
    '%i = s32[] parameter(1)',
    '%fast = f32[1,100]{1,0:S(1)} parameter(2)',
    # A row out of nine, and a row in: 400 bytes each.
    '%row = f32[1,100]{1,0} fusion(%p, %i), kind=kLoop, calls=%part',
    '%all = f32[9,100]{1,0} fusion(%p, %row), kind=kLoop, calls=%put',
    '%sum = f32[1,100]{1,0} add(%row, %fast)',
    '%copy-start = (f32[1,100]{1,0:S(1)}, f32[1,100]{1,0}, u32[]{:S(2)}) '
    'copy-start(%row)',
    'ROOT %none = f32[1,100]{1,0} bitcast(%sum)',
    others=fused,
  )
  costs_of = {
    visit.instruction.name: costs.moved(found, visit)
    for visit in hlo.walk(found)
    if not visit.is_fused
  }
  # The index counts as well.
  assert costs_of == {
    'p': 0,
    'i': 0,
    'fast': 0,
    'row': 400 + 400 + 4,
    'all': 400 + 400,
    'sum': 400 + 400,
    'copy-start': 400,
    'none': 0,
  }


def test_a_program_of_this_machine():
  def function(x, w):
    step = lambda x, w: (jnp.tanh(x @ w), None)
    return jax.lax.scan(step, x, w)[0]

  x, w = np.zeros((6, 10), np.float32), np.zeros((7, 10, 10), np.float32)
  compiled = jax.jit(function).lower(x, w).compile()
  found = costs.of(hlo.parse(compiled.as_text()))
  assert found.flops == 7 * 2 * 6 * 10 * 10
  # Every weight is read, and x comes and goes in every layer, or more often.
  assert found.hbm >= 7 * 4 * (10 * 10 + 2 * 6 * 10)
  assert found.links == 0


def test_fixed_and_repeated_parts():
  def function(count, x):
    return jax.lax.fori_loop(0, count, lambda _, x: x @ x, x) @ x.T

  x = np.zeros((8, 8), np.float32)
  compiled = jax.jit(function).lower(np.int32(3), x).compile()
  found = hlo.parse(compiled.as_text())
  fixed, one = costs.of(found, unknown=0), costs.of(found, unknown=1)
  each = one.plus(fixed, -1)
  product = 2 * 8 * 8 * 8
  assert (fixed.flops, each.flops) == (product, product)
  assert fixed.plus(each, 3).flops == costs.of(found, unknown=3).flops
