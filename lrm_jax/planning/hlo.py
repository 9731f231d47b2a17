"""Compiled programs as data, read from the text that XLA prints of them.

  module = parse(compiled.as_text())
  for visit in walk(module): ...    every instruction, with how often it runs
  collectives(module)               those that cross chips

XLA's own cost analysis counts the body of a loop once; here all that is in a
loop counts as often as it runs.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_BITS = {'pred': 8, 'bf16': 16, 'f16': 16, 'f32': 32, 'f64': 64}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$')
_INSTRUCTION = re.compile(
  r'^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$'
)
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|called_computations)=%?([\w.\-]+)'
)
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_BRANCHES = re.compile(
  r'(?:branch_computations|called_computations)=\{([^}]*)\}'
)
_TRIPS = re.compile(r'known_trip_count":\s*\{"n":"(\d+)"')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_LISTED = re.compile(r'replica_groups=\{\{([\d,]*)\}')
_IOTA = re.compile(r'replica_groups=\[(\d+),(\d+)\]<=')
_AXES = re.compile(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}')


class Array(NamedTuple):
  """A part of what an instruction gives.

  Attributes:
    dtype: as XLA says it, such as bf16.
    shape: on one device.
    space: of memory, 0 for the large one; others are on the chip, or the host.
  """

  dtype: str
  shape: tuple[int, ...]
  space: int

  @property
  def bytes(self) -> int:
    """Without what a layout pads."""
    return math.prod(self.shape) * _bits(self.dtype) // 8


class Instruction(NamedTuple):
  """A line of a computation.

  Attributes:
    name: unique in the module.
    kind: such as fusion.
    arrays: what it gives.
    operands: names of what it is given.
    rest: of the line, behind the operands.
    is_root: its computation gives what it gives.
  """

  name: str
  kind: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  rest: str
  is_root: bool


class Module(NamedTuple):
  """A program: {name of a computation: its instructions}, and the first one."""

  computations: dict[str, list[Instruction]]
  entry: str


class Visit(NamedTuple):
  """An instruction, where it runs.

  Attributes:
    instruction: the line.
    siblings: all of its computation, by name.
    times: how often it runs.
    depth: loops around it.
    is_fused: it is a part of a kernel: what it gives is never in memory.
  """

  instruction: Instruction
  siblings: dict[str, Instruction]
  times: float
  depth: int
  is_fused: bool


class Collective(NamedTuple):
  """One collective instruction.

  Attributes:
    kind: one of KINDS.
    bytes: of the arrays it gives to each device, once.
    times: how often it runs.
    group: devices that take part together.
    depth: loops around it.
    dtypes: of the arrays.
    shapes: likewise.
  """

  kind: str
  bytes: int
  times: float
  group: int
  depth: int
  dtypes: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]

  @property
  def sent(self) -> float:
    """Bytes that a device sends, all runs together, by ring algorithms.

    n - 1 parts of n of what all-gather and all-to-all give, and of what
    reduce-scatter is given, which is n times as much; all-reduce is the two
    last one after the other.
    """
    parts = (self.group - 1) / max(1, self.group)
    factor = {
      'all-gather': parts,
      'all-reduce': 2 * parts,
      'reduce-scatter': self.group - 1,
      'all-to-all': parts,
      'collective-permute': 1.0,
    }
    return factor[self.kind] * self.bytes * self.times


def parse(text: str) -> Module:
  """A module out of the text of an optimized one."""
  computations, entry, current = {}, '', []
  for line in text.splitlines():
    head = _COMPUTATION.match(line)
    if head:
      current = computations.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
      continue
    found = _INSTRUCTION.match(line)
    if found:
      current.append(_instruction(*found.groups()))
  return Module(computations, entry)


def walk(module: Module, unknown: float = 1) -> Iterator[Visit]:
  """Every instruction that runs, the parts of kernels too.

  Of a branch all sides, as if all ran.

  Args:
    module: from `parse`.
    unknown: times that a loop runs whose count is not known when it is
      compiled.
  """
  yield from _walk(module, module.entry, unknown, 1.0, 0, is_fused=False)


def _walk(module, name, unknown, times, depth, is_fused) -> Iterator[Visit]:
  siblings = {each.name: each for each in module.computations[name]}
  for each in siblings.values():
    yield Visit(each, siblings, times, depth, is_fused)
    inner, deeper = times, depth
    if each.kind == 'while':
      found = trips(module, each)
      inner *= unknown if found is None else found
      deeper += 1
    # What a reduction adds with is a line of it, and no more.
    if each.kind not in ('reduce', 'reduce-window', 'scatter', 'sort', *KINDS):
      for other in called(each):
        if other in module.computations:
          fused = is_fused or each.kind == 'fusion'
          yield from _walk(module, other, unknown, inner, deeper, fused)


def called(instruction: Instruction) -> list[str]:
  """Names of the computations that it runs; of a loop, its body."""
  names = _CALLED.findall(instruction.rest)
  for branches in _BRANCHES.findall(instruction.rest):
    names += [name.strip().lstrip('%') for name in branches.split(',')]
  return list(dict.fromkeys(names))


def trips(module: Module, loop: Instruction) -> int | None:
  """How often a loop runs, where that was known when it was compiled.

  From what XLA notes, or from its condition and its body: i < constant, and
  i + constant, with i from 0.
  """
  noted = _TRIPS.search(loop.rest)
  if noted:
    return int(noted[1])
  condition = module.computations[_CONDITION.search(loop.rest)[1]]
  names, root = _named(condition)
  if root.kind != 'compare' or 'direction=LT' not in root.rest:
    return None
  bound = _number(names, root.operands[1])
  counter = re.search(r'index=(\d+)', names[root.operands[0]].rest)
  if bound is None or counter is None:
    return None
  names, root = _named(module.computations[called(loop)[0]])
  after = names[root.operands[int(counter[1])]]
  step = _number(names, after.operands[-1]) if after.kind == 'add' else None
  return None if step is None else -(-bound // step)


def _named(lines) -> tuple[dict[str, Instruction], Instruction]:
  return {each.name: each for each in lines}, next(
    each for each in lines if each.is_root
  )


def _number(names: dict[str, Instruction], name: str) -> int | None:
  """The value of a constant; None of anything else."""
  found = names.get(name)
  if found is None or found.kind != 'constant':
    return None
  text = found.rest.partition(')')[0]
  return int(text) if text.isdecimal() else None


def collectives(module: Module, unknown: float = 1) -> list[Collective]:
  """All collectives of a module, each once.

  One that is under way while something else is computed stands in several
  kernels, with the same channel in all of them.

  Args:
    module: from `parse`.
    unknown: see `walk`.
  """
  found, begun = [], set()
  for visit in walk(module, unknown):
    kind = visit.instruction.kind.removesuffix('-start')
    if kind not in KINDS:
      continue
    channel = _CHANNEL.search(visit.instruction.rest)
    if visit.is_fused and channel:
      same = channel[1], kind, visit.instruction.arrays
      if same in begun:
        continue
      begun.add(same)
    found.append(_collective(kind, visit))
  return found


def _instruction(root, name, result, kind, rest) -> Instruction:
  arrays = tuple(
    Array(dtype, sizes(text), _space(layout))
    for dtype, text, layout in _ARRAY.findall(result)
  )
  end = _closing(rest)
  # A constant keeps its value, which stands where operands do.
  operands = tuple(_NAME.findall(rest[:end]))
  kept = rest if kind in ('constant', 'parameter') else rest[end + 1 :]
  return Instruction(name, kind, arrays, operands, kept, bool(root))


def _closing(text: str) -> int:
  """Where the parenthesis closes that stands open before the text."""
  depth = 1
  for place, letter in enumerate(text):
    depth += (letter in '({') - (letter in ')}')
    if not depth:
      return place
  return len(text)


def sizes(text: str) -> tuple[int, ...]:
  """Of the axes of an array: 5,7 is (5, 7)."""
  return tuple(int(size) for size in text.split(',') if size)


def _space(layout: str) -> int:
  found = re.search(r'S\((\d+)\)', layout)
  return int(found[1]) if found else 0


def _collective(kind: str, visit: Visit) -> Collective:
  each = visit.instruction
  arrays = each.arrays
  if each.kind == 'collective-permute-start' or (
    each.kind.endswith('-start') and kind != 'all-reduce'
  ):
    # (what it was given, what it gives, marks of its progress).
    arrays = [a for a in arrays if a.shape or len(arrays) <= 2]
    arrays = arrays[len(arrays) // 2 :]
  return Collective(
    kind=kind,
    bytes=sum(array.bytes for array in arrays),
    times=visit.times,
    group=_group(each.rest),
    depth=visit.depth,
    dtypes=tuple(array.dtype for array in arrays),
    shapes=tuple(array.shape for array in arrays),
  )


def _bits(dtype: str) -> int:
  if dtype in _BITS:
    return _BITS[dtype]
  found = re.match(r'[suf](\d+)', dtype)
  return int(found[1]) if found else 0


def _group(rest: str) -> int:
  iota, listed, axes = (
    pattern.search(rest) for pattern in (_IOTA, _LISTED, _AXES)
  )
  if iota:
    return int(iota[2])
  if axes:
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes[1]))
    return math.prod(
      int(sizes[name]) for name in re.findall(r"'([^']+)'", axes[2])
    )
  return len(listed[1].split(',')) if listed and listed[1] else 1
