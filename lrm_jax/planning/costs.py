"""What a compiled program costs a chip: operations, memory, links."""

import math
import re
from typing import NamedTuple

import numpy as np

from lrm_jax.planning import hlo
from lrm_jax.planning.hlo import Array, Instruction, Module, Visit

# What moves nothing: names for what is there, or the work of what they call.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'),
  *('while', 'conditional', 'call', 'after-all', 'opt-barrier'),
  *('partition-id', 'replica-id', 'iota'),
}
_SLICES = ('dynamic-slice', 'slice', 'gather')
# Targets of custom calls that are kernels; the others mark and allocate.
_KERNELS = ('tpu_custom_call',)
# Passes through the multiplier of bfloat16 that a product of float32 takes.
_PASSES = {'highest': 6, 'high': 3}
# Products of queries and keys, or as large, in a kernel of splash attention:
# scores and outputs; scores, their slopes and those of queries; and of keys
# and values, which needs both of the others again.
_SPLASH = {'mha_fwd': 2, 'mha_dq': 3, 'mha_dkv': 4}
_LABELS = re.compile(r'dim_labels=(\w+)_(\w+)->(\w+)')
_WINDOW = re.compile(r'window=\{([^}]*)\}')
_LAYOUTS = re.compile(r'operand_layout_constraints=\{(.*?\})\}')
_CONTRACTED = re.compile(r'lhs_contracting_dims=\{([\d,]*)\}')


class Cost(NamedTuple):
  """Of one device.

  Attributes:
    flops: of products, as many passes as they take.
    hbm: bytes that cross the memory, read or written.
    links: bytes sent to other chips.
    by_kind: likewise, by kind of collective.
  """

  flops: float
  hbm: float
  links: float
  by_kind: dict[str, float]

  def plus(self, other: 'Cost', times: float) -> 'Cost':
    """This one, and `times` the other."""
    kinds = {
      kind: self.by_kind[kind] + times * other.by_kind[kind]
      for kind in self.by_kind
    }
    return Cost(
      self.flops + times * other.flops,
      self.hbm + times * other.hbm,
      self.links + times * other.links,
      kinds,
    )


def of(module: Module, unknown: float = 1) -> Cost:
  """What a program costs; `unknown` as for `hlo.walk`."""
  flops = hbm = 0.0
  for visit in hlo.walk(module, unknown):
    flops += visit.times * operations(visit)
    if not visit.is_fused:
      hbm += visit.times * moved(module, visit)
  by_kind = dict.fromkeys(hlo.KINDS, 0.0)
  for each in hlo.collectives(module, unknown):
    by_kind[each.kind] += each.sent
  return Cost(flops, hbm, sum(by_kind.values()), by_kind)


def operations(visit: Visit) -> float:
  """Of a product, 2 for each pair of numbers that meet; of others none.

  Times the passes where float32 is multiplied in bfloat16's.
  """
  each = visit.instruction
  if each.kind == 'custom-call' and 'tpu_custom_call' in each.rest:
    return _splash(each)
  if each.kind not in ('dot', 'convolution'):
    return 0.0
  # An operand may come from another computation's parameter: it is one here.
  left, right = (visit.siblings[name].arrays[0] for name in each.operands[:2])
  out = each.arrays[0]
  if each.kind == 'dot':
    found = _CONTRACTED.search(each.rest)
    inner = math.prod(left.shape[int(i)] for i in found[1].split(',') if i)
    pairs = math.prod(out.shape) * inner
  else:
    pairs = _convolved(each.rest, left, right, out)
  precision = re.search(r'operand_precision=\{(\w+)', each.rest)
  passes = 1
  if precision and {left.dtype, right.dtype} == {'f32'}:
    passes = _PASSES.get(precision[1], 1)
  return 2.0 * pairs * passes


def moved(module: Module, visit: Visit) -> float:
  """Bytes of the large memory that an instruction reads and writes.

  Of an array that a kernel looks at through a slice, the slice; of one that it
  changes a part of in place, the part.
  """
  each = visit.instruction
  if each.kind in _FREE or each.kind.endswith('-done'):
    return 0.0
  if each.kind == 'custom-call' and not any(k in each.rest for k in _KERNELS):
    return 0.0
  if each.kind in ('copy-start', 'slice-start'):
    sides = [a for a in each.arrays if a.shape]
    size = min((a.bytes for a in sides), default=0)
    return float(size * sum(a.space == 0 for a in sides))
  given = [
    visit.siblings[name].arrays
    for name in each.operands
    if name in visit.siblings
  ]
  if each.kind == 'fusion':
    return _of_kernel(module, each, given)
  return _of_one(each, given)


def _of_one(each: Instruction, given: list[tuple[Array, ...]]) -> float:
  out = _large(each.arrays)
  if each.kind in _SLICES:
    return 2 * out
  if each.kind == 'dynamic-update-slice':
    return 2 * _large(given[1])
  if each.kind == 'scatter':
    return 2 * _large(given[-1])
  return out + sum(map(_large, given))


def _of_kernel(
  module: Module, each: Instruction, given: list[tuple[Array, ...]]
) -> float:
  """Of a kernel: parts of what it reads, and of what it changes in place."""
  inside = _Kernel(module, each)
  results = [inside.root]
  if inside.root.kind == 'tuple':
    results = [inside.names[name] for name in inside.root.operands]
  total, in_place = 0.0, set()
  for result, array in zip(results, each.arrays, strict=False):
    where, source = inside.origin(result)
    if source.kind in ('dynamic-update-slice', 'scatter'):
      changed = 1 if source.kind == 'dynamic-update-slice' else -1
      part = where.names[source.operands[changed]].arrays[0]
      total += min(part.bytes, array.bytes) * (array.space == 0)
      _, whole = where.origin(where.names[source.operands[0]])
      in_place.add(whole.name)
    else:
      total += _large((array,))
  for line in inside.names.values():
    if line.kind != 'parameter' or line.name in in_place:
      continue
    arrays = given[_number(line)]
    uses = inside.uses(line.name)
    if uses and all(use.kind in _SLICES for use in uses):
      seen = sum(use.arrays[0].bytes for use in uses)
      total += min(seen, _large(arrays))
    else:
      total += _large(arrays)
  return total


class _Kernel:
  """A fusion from inside, and the one that it is in itself, if it is."""

  def __init__(
    self,
    module: Module,
    fusion: Instruction,
    outside: '_Kernel | None' = None,
  ):
    """Its lines by name, and the one that it gives."""
    self._module, self._fusion, self._outside = module, fusion, outside
    lines = module.computations[hlo.called(fusion)[0]]
    self.names = {line.name: line for line in lines}
    self.root = next(line for line in lines if line.is_root)

  def origin(self, line: Instruction) -> tuple['_Kernel', Instruction]:
    """What made an array, behind other names and inner kernels; and where."""
    if line.kind in ('bitcast', 'copy'):
      return self.origin(self.names[line.operands[0]])
    if line.kind == 'fusion' and len(line.arrays) == 1:
      inner = _Kernel(self._module, line, self)
      return inner.origin(inner.root)
    if line.kind == 'parameter' and self._outside is not None:
      name = self._fusion.operands[_number(line)]
      return self._outside.origin(self._outside.names[name])
    return self, line

  def uses(self, name: str) -> list[Instruction]:
    """Who reads an array, under whatever name."""
    found = []
    for line in self.names.values():
      if name not in line.operands:
        continue
      if line.kind in ('bitcast', 'copy'):
        found += self.uses(line.name)
      elif line.kind == 'fusion':
        inner = _Kernel(self._module, line, self)
        place = line.operands.index(name)
        found += [
          use
          for given in inner.names.values()
          if given.kind == 'parameter' and _number(given) == place
          for use in inner.uses(given.name)
        ]
      else:
        found.append(line)
    return found


def _number(parameter: Instruction) -> int:
  return int(parameter.rest.partition(')')[0])


def _large(arrays) -> float:
  return float(sum(array.bytes for array in arrays if array.space == 0))


def _convolved(rest: str, left: Array, right: Array, out: Array) -> float:
  """Pairs of numbers that meet in a convolution: a product, on a TPU."""
  left_labels, right_labels, out_labels = _LABELS.search(rest).groups()
  size = dict(zip(right_labels, right.shape, strict=True))
  pairs = size['i'] * size['o'] * out.shape[out_labels.index('b')]
  spatial = [label for label in out_labels if label.isdigit()]
  window = _window(rest, len(spatial))
  for label in spatial:
    options = {name: values[int(label)] for name, values in window.items()}
    pairs *= _taps(
      left.shape[left_labels.index(label)],
      size[label],
      out.shape[out_labels.index(label)],
      **options,
    )
  groups = re.search(r'(?:feature|batch)_group_count=(\d+)', rest)
  return float(pairs) / (int(groups[1]) if groups else 1)


def _window(rest: str, count: int) -> dict[str, list[int]]:
  found = _WINDOW.search(rest)
  stated = dict(part.split('=') for part in (found[1].split() if found else ()))
  number = lambda name: (
    [int(x) for x in stated[name].split('x')] if name in stated else [1] * count
  )
  pads = stated['pad'].split('x') if 'pad' in stated else ['0_0'] * count
  return {
    'stride': number('stride'),
    'spread': number('lhs_dilate'),
    'apart': number('rhs_dilate'),
    'pad': [int(pad.split('_')[0]) for pad in pads],
  }


def _taps(
  length: int,
  taps: int,
  places: int,
  *,
  stride: int,
  spread: int,
  apart: int,
  pad: int,
) -> int:
  """(place, tap) pairs of an axis where there is something to multiply.

  An axis of a batch is one on which every place meets one tap alone.
  """
  if stride == spread == apart == 1 and not pad:
    return taps * places
  at = np.arange(places)[:, None] * stride + np.arange(taps) * apart - pad
  is_there = (at >= 0) & (at < (length - 1) * spread + 1) & (at % spread == 0)
  return int(is_there.sum())


def _splash(each: Instruction) -> float:
  """Of a kernel of splash attention, by its name and its operands.

  A causal one leaves out blocks that nobody sees: of a whole row just over
  half are left, and of the last of several parts of a row, more.
  """
  products = [n for name, n in _SPLASH.items() if name in each.name]
  if not products:
    raise ValueError(
      f'what does the kernel {each.name!r} cost? It is not known'
    )
  given = [
    (dtype, hlo.sizes(sizes))
    for dtype, sizes in re.findall(
      r'\b([a-z]\w*)\[([\d,]*)\]', _LAYOUTS.search(each.rest)[1]
    )
  ]
  blocks = next(shape[-1] for dtype, shape in given if dtype == 's8')
  wide = [shape for dtype, shape in given if dtype in ('bf16', 'f32')]
  *heads, queries, width = next(shape for shape in wide if shape[-1] > 1)
  keys = wide[1][-2]
  seen = 1 - queries / keys / 2 + 1 / blocks / 2
  return products[0] * 2.0 * math.prod(heads) * queries * keys * width * seen
