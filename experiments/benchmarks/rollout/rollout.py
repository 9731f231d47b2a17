"""Rollouts and whole RL steps, ours and those of three peers, in turns.

  python experiments/benchmarks/rollout/rollout.py \
      --transformers-python A/bin/python --trl-python B/bin/python \
      --tunix-python C/bin/python [--workloads uniform ragged step]

Every contender is a process of its own interpreter (their pins clash) on the
same checkpoint and prompts, in float32. First each tries its settings, one
after the other, and keeps the fastest; then the repeats alternate. A peer
whose interpreter is not given is left out. Writes results.json beside this
file and the tables of README.md; a workload that is not run keeps its numbers.
"""

import argparse
import math
import os
import pathlib
import platform
import statistics
import sys
import tempfile

import checkpoint
import jax
import protocol
import table
import workload as workload_lib

from lrm_jax import flops, jsonl
from lrm_jax.checkpoints import huggingface

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
OURS = 'lrm_jax'
GAP_LIMIT = 1e-4  # nats, of log-probabilities
LAW_LIMIT = 4.0  # standard errors between mean lengths
# Prompts, samples of each, cap, model.
WORKLOADS = {
  'uniform': (256, 1, 128, 'uniform'),
  'ragged': (32, 8, 256, 'ragged'),
  'tiny': (32, 8, 384, checkpoint.TINY),
  'caps': (32, 8, 512, 'ragged'),
  'step': (16, 8, 256, 'ragged'),
}
PROMPT_TOKENS = (24, 40)
_SIZES = (256, 128, 64, 32)
SAMPLING = {
  OURS: ('lrm_jax_sampling.py', [f'slots={n}' for n in (256, 128)]),
  'transformers': (
    'transformers_sampling.py',
    [f'static={n}' for n in _SIZES]
    + [f'continuous={n}' for n in _SIZES[1:]]
    + ['compiled=128'],
  ),
  'tunix': ('tunix_sampling.py', [f'rows={n}' for n in _SIZES]),
}
# Ours under two caps; nearly all responses end before the lower one.
HIGH_CAP = f'{OURS}, cap 8192'
CAPS = {
  OURS: ('lrm_jax_sampling.py', ['slots=128']),
  HIGH_CAP: ('lrm_jax_sampling.py', ['slots=128,cap=8192']),
}
STEP = {
  OURS: (
    'lrm_jax_step.py',
    [f'slots=128,rows={r}' for r in (8, 16, 32)],
  ),
  'trl': (
    'trl_step.py',
    [
      'rows=16,generate=16',
      'rows=16,generate=128',
      'rows=32,generate=32',
      'rows=8,generate=8',
      'rows=16,continuous=128',
      'rows=16,continuous=64',
    ],
  ),
  'tunix': (
    'tunix_step.py',
    [
      'rows=16,generate=16',
      'rows=16,generate=128',
      'rows=16,generate=32',
      'rows=32,generate=32',
      'rows=8,generate=32',
    ],
  ),
}


class Benchmark:
  """One workload and everything it takes to start its contenders."""

  def __init__(self, name: str, folder: pathlib.Path, pythons: dict[str, str]):
    """Writes the workload's file into `folder`, which has the checkpoints."""
    prompts, samples, cap, model = WORKLOADS[name]
    if model == checkpoint.TINY:
      fields = checkpoint.tiny_lrm(prompts)
    else:
      fields = {
        'model': str(folder / model),
        'prompts': checkpoint.sample_words(prompts, PROMPT_TOKENS, seed=2),
        'eos_id': checkpoint.EOS,
        'pad_id': checkpoint.PAD,
      }
    self.work = workload_lib.Workload(samples=samples, cap=cap, **fields)
    self.folder = folder
    self.path = folder / f'{name}.json'
    self.work.save(self.path)
    self.pythons = pythons
    scripts = {'step': STEP, 'caps': CAPS}.get(name, SAMPLING)
    self.scripts = {k: scripts[k] for k in scripts if k in pythons}

  def start(self, name: str, setting: str) -> protocol.Contender:
    """A contender that is ready."""
    return protocol.Contender(
      self.pythons[name],
      HERE / self.scripts[name][0],
      self.path,
      setting,
      log=self.folder / f'{name}.log',
      root=ROOT if name in CAPS else None,
    )

  def tune(self, name: str) -> dict[str, float]:
    """Useful tokens per second of each setting, the better of two runs.

    A setting that a contender cannot do is told and left out.
    """
    found = {}
    for setting in self.scripts[name][1]:
      try:
        contender = self.start(name, setting)
        answers = [contender.ask('go', seed=seed) for seed in (101, 102)]
      except RuntimeError as error:
        print(f'{name} {setting} does not work: {error}', flush=True)
        continue
      contender.close()
      found[setting] = max(map(rate, answers))
      print(f'{name} {setting}: {found[setting]:,.0f} tokens/s', flush=True)
    return found

  def run(self, repeats: int, is_tuned: bool) -> dict:
    """The numbers of all contenders, by name; `matmul` and `gap` beside."""
    tuning = {n: self.tune(n) if is_tuned else {} for n in self.scripts}
    settings = {
      name: max(found, key=found.get) if found else self.scripts[name][1][0]
      for name, found in tuning.items()
    }
    running = {n: self.start(n, settings[n]) for n in self.scripts}
    answers, matmul = {name: [] for name in running}, []
    for seed in range(1, repeats + 1):
      for name, contender in running.items():
        answers[name].append(contender.ask('go', seed=seed))
        print(f'{name} {rate(answers[name][-1]):,.0f} tokens/s', flush=True)
        if 'matmul_rate' in contender.offers:
          matmul.append(contender.ask('matmul_rate')['flops_per_second'])
    gap = self.check(running)
    for contender in running.values():
      contender.close()
    config, _ = huggingface.load(self.work.model)
    return {
      'flops_per_token': flops.per_token(config),
      'matmul_flops_per_second': max(matmul),
      'logp_gap': gap,
      'contenders': {
        name: summarize(answers[name])
        | {
          'setting': settings[name],
          'tuning': tuning[name],
          'start_seconds': running[name].start_seconds,
        }
        for name in running
      },
    }

  def check(self, running: dict[str, protocol.Contender]) -> float | None:
    """Ours against transformers' teacher-forced log-probabilities, if there."""
    judges = [c for c in running.values() if 'check' in c.offers]
    if not judges or 'dump' not in running[OURS].offers:
      return None
    path = str(self.folder / 'samples.npz')
    running[OURS].ask('dump', path=path, count=32)
    return judges[0].ask('check', path=path)['gap']


def rate(answer: dict) -> float:
  """Useful tokens per second of one repeat."""
  return sum(answer['lengths']) / answer['seconds']


def spread(values: list[float]) -> dict[str, float]:
  """Median, lowest, highest."""
  return {
    'median': statistics.median(values),
    'low': min(values),
    'high': max(values),
  }


def summarize(answers: list[dict]) -> dict:
  """The numbers of one contender from its repeats."""
  lengths = [n for answer in answers for n in answer['lengths']]
  deviation = statistics.stdev(lengths)
  found = {
    'tokens_per_second': spread([rate(answer) for answer in answers]),
    'seconds': spread([answer['seconds'] for answer in answers]),
    'mean_length': statistics.mean(lengths),
    'mean_length_error': deviation / math.sqrt(len(lengths)),
  }
  if 'sample_seconds' in answers[0]:
    found['sample_seconds'] = spread([a['sample_seconds'] for a in answers])
    found['update_seconds'] = spread(
      [a['seconds'] - a['sample_seconds'] for a in answers]
    )
  return found


def failures(name: str, result: dict) -> list[str]:
  """What says that the contenders did not do the same."""
  found = []
  gap = result['logp_gap']
  if gap is not None and not gap <= GAP_LIMIT:
    found.append(f'{name}: log-probabilities differ by {gap:.1e} nats')
  ours = result['contenders'][OURS]
  for peer, numbers in result['contenders'].items():
    error = math.hypot(ours['mean_length_error'], numbers['mean_length_error'])
    distance = abs(ours['mean_length'] - numbers['mean_length'])
    if distance > LAW_LIMIT * error:
      found.append(
        f'{name}: responses of {peer} have {numbers["mean_length"]:.1f} tokens '
        f'on average, ours {ours["mean_length"]:.1f} (errors {error:.1f})'
      )
  return found


def describe(calibration: checkpoint.Calibration) -> dict:
  """The model and the machine."""
  return {
    'end_rate': calibration.rate,
    'end_rate_deviation': calibration.spread,
    'cores': len(os.sched_getaffinity(0)),
    'processor': platform.processor() or platform.machine(),
    'jax': jax.__version__,
  }


def parse(arguments: list[str]) -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for peer in ('transformers', 'trl', 'tunix'):
    parser.add_argument(f'--{peer}-python', help=f'interpreter that has {peer}')
  parser.add_argument(
    '--workloads', nargs='+', choices=WORKLOADS, default=list(WORKLOADS)
  )
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument(
    '--first-setting', action='store_true', help='tune nothing'
  )
  parser.add_argument('--results', default=str(HERE / 'results.json'))
  return parser.parse_args(arguments)


def main() -> None:
  """Runs what was asked for and writes the numbers."""
  options = parse(sys.argv[1:])
  pythons = {
    OURS: sys.executable,
    HIGH_CAP: sys.executable,
    'transformers': options.transformers_python,
    'trl': options.trl_python,
    'tunix': options.tunix_python,
  }
  pythons = {name: python for name, python in pythons.items() if python}
  path = pathlib.Path(options.results)
  results = table.read(path)
  wrong = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    results |= describe(checkpoint.write(folder))
    for workload in options.workloads:
      print(f'--- {workload}', flush=True)
      benchmark = Benchmark(workload, folder, pythons)
      result = benchmark.run(options.repeats, not options.first_setting)
      results['workloads'][workload] = result
      wrong += failures(workload, result)
      jsonl.write_json(path, results)
  text = table.render(results)
  print(text)
  if path.parent == HERE:
    table.put(HERE / 'README.md', text)
  if wrong:
    sys.exit('\n'.join(wrong))


if __name__ == '__main__':
  main()
