"""A plan as text for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrm_jax.reporting import tables

GIB = 2**30
_PHASES = {
  'update': 'update',
  'sample': 'sampling',
  'gather': 'weights sent',
}


def text(plan: Mapping[str, Any], price: float | None = None) -> str:
  """Memory and times, a table each.

  Args:
    plan: of `plan.plan`.
    price: of a chip for an hour, in any currency; None: nobody has said.
  """
  parts = [headline(plan), memory(plan)]
  for name, reason in plan['refused'].items():
    parts.append(f'{name} does not fit: {reason}')
  if plan.get('steps'):
    parts.append(steps(plan['steps'], price))
  return '\n\n'.join(part for part in parts if part)


def headline(plan: Mapping[str, Any]) -> str:
  """What was planned for what, and whether it fits."""
  mesh = ' x '.join(f'{k}={n}' for k, n in plan['mesh'].items() if n > 1)
  verdict = {
    True: 'fits',
    False: 'DOES NOT FIT',
    None: 'the memory of these devices is not known',
  }[plan['fits']]
  return (
    f'{plan["topology"]}: {plan["chips"]} devices'
    f'{f" ({mesh})" if mesh else ""}, '
    f'{plan["parameters"] / 1e9:.2f} billion parameters: {verdict}'
  )


def memory(plan: Mapping[str, Any]) -> str:
  """GiB on a device, by class and phase."""
  phases = plan['memory']
  if not phases:
    return ''
  names = list(
    dict.fromkeys(name for phase in phases.values() for name in phase)
  )
  names.remove('total')
  cell = lambda phase, name: (
    f'{phase[name] / GIB:.2f}' if phase.get(name) else '-'
  )
  rows = [
    (name, *(cell(phase, name) for phase in phases.values()))
    for name in (*names, 'total')
    if any(phase.get(name) for phase in phases.values())
  ]
  if plan['hbm'] is not None:
    whole = f'{plan["hbm"] / GIB:.2f}'
    rows.append(('of the device', *[whole] * len(phases)))
  if plan['offloaded']:
    host = f'{plan["offloaded"] / GIB:.2f}'
    rows.append(('on the host for it', *[host] * len(phases)))
  header = ('GiB on a device', *(_PHASES[name] for name in phases))
  return tables.aligned(header, rows)


def steps(found: Sequence[Mapping[str, Any]], price: float | None) -> str:
  """At best: see `steps.py`."""
  row = lambda name, cell: (name, *map(cell, found))
  of = lambda part, key: lambda s: _short(s[part][key])
  rows = [
    row('micro-batches', of('update', 'micro_batches')),
    row('update: model PFLOPs', lambda s: _short(_update(s) / 1e15)),
    *(
      row(f'update: {name} s', of('update', f'{name}_seconds'))
      for name in ('compute', 'memory', 'links')
    ),
    row('update: bound s', of('update', 'seconds')),
    row('update: MFU at best %', _share('mfu_bound')),
    row('  by products alone %', _share('mfu_compute')),
  ]
  kinds = [k for s in found for k in s['update']['sent_bytes']]
  for kind in dict.fromkeys(kinds):
    sent = lambda s, kind=kind: s['update']['sent_bytes'].get(kind, 0) / 1e9
    rows.append(row(f'update: {kind} GB', lambda s, f=sent: _short(f(s))))
  if all('sample' in s for s in found):
    token = lambda key: lambda s: _short(s['sample']['token'][key])
    rows += [
      *(
        row(f'sampling: {name} s', of('sample', f'{name}_seconds'))
        for name in ('gather', 'prefill', 'decode')
      ),
      row('sampling: slots of a lane', of('sample', 'slots')),
      *(
        row(f'  a token: {name} ms', token(name))
        for name in ('compute', 'memory', 'links')
      ),
      row('whole step s', of('step', 'seconds')),
      row('tokens/s', of('step', 'tokens_per_second')),
      row('tokens/s a device', of('step', 'tokens_per_second_per_chip')),
      row('device hours', of('step', 'chip_hours')),
    ]
    if price is not None:
      rows.append(row('price', lambda s: _short(_hours(s) * price)))
  header = (
    'a step, at best: response tokens',
    *(str(s['response']) for s in found),
  )
  return tables.aligned(header, rows)


def _update(step: Mapping[str, Any]) -> float:
  return step['update']['model_flops']


def _hours(step: Mapping[str, Any]) -> float:
  return step['step']['chip_hours']


def _short(value: float) -> str:
  """Three digits, or all before the point."""
  return f'{value:.3g}' if value < 100 else f'{value:,.0f}'


def _share(name: str) -> Callable[[Mapping[str, Any]], str]:
  return lambda step: f'{100 * step["update"][name]:.0f}'
