"""The tables of results.json.

python experiments/benchmarks/rollout/table.py     (renews README.md)
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
OURS = 'lrm_jax'
START, END = '<!-- tables -->', '<!-- end of tables -->'
TITLES = {
  'uniform': 'uniform: 256 prompts, 128 tokens each',
  'ragged': 'ragged: 32 prompts x 8 responses, at most 256 tokens',
  'tiny': 'tiny: the embedded LRM, 32 problems x 8, at most 384 tokens',
  'caps': 'caps: ragged, under a cap of 512 and of 8192',
  'step': 'step: GRPO on 16 prompts x 8 responses, at most 256 tokens',
}
# Passes of sampling and of the update, over each of a step's responses.
HALVES = {'sample_seconds': 1, 'update_seconds': 3}
STEP_RESPONSES = 128
# Of a token in a step: sampled with one forward pass, trained with another
# and a backward pass that costs two.
PASSES = {'uniform': 1, 'ragged': 1, 'tiny': 1, 'caps': 1, 'step': 4}


def read(path: pathlib.Path) -> dict:
  """The results so far."""
  return json.loads(path.read_text()) if path.exists() else {'workloads': {}}


def render(results: dict) -> str:
  """A Markdown table for each workload."""
  parts = [
    section(name, results['workloads'][name])
    for name in TITLES
    if name in results['workloads']
  ]
  return '\n\n'.join(parts)


def section(name: str, result: dict) -> str:
  """One table: fastest first, with what it is compared by below."""
  contenders = result['contenders']
  peak = result['matmul_flops_per_second']
  is_step = 'sample_seconds' in contenders[OURS]
  columns = ['', 'useful tokens/s (lowest to highest)', 'ours is']
  columns += ['seconds', *(['sampling', 'update'] if is_step else [])]
  columns += ['of matmul rate', 'mean length', 'setting']
  rows = [columns, ['---'] * len(columns)]
  speed = lambda n: contenders[n]['tokens_per_second']['median']
  for contender in sorted(contenders, key=speed, reverse=True):
    numbers = contenders[contender]
    rates = numbers['tokens_per_second']
    flops = PASSES[name] * result['flops_per_token']
    share = flops * rates['median'] / peak
    ratio = speed(OURS) / rates['median']
    cells = [
      contender,
      f'{rates["median"]:,.0f} ({rates["low"]:,.0f} to {rates["high"]:,.0f})',
      '-' if contender == OURS else f'{ratio:.2f} x',
      f'{numbers["seconds"]["median"]:.2f}',
    ]
    if is_step:
      tokens = STEP_RESPONSES * numbers['mean_length']
      work = result['flops_per_token'] * tokens / peak  # seconds of a pass
      for part, passes in HALVES.items():
        seconds = numbers[part]['median']
        cells.append(f'{seconds:.2f} ({100 * passes * work / seconds:.0f} %)')
    cells += [
      f'{100 * share:.1f} %',
      f'{numbers["mean_length"]:.1f} ± {numbers["mean_length_error"]:.1f}',
      f'`{numbers["setting"]}`',
    ]
    rows.append(cells)
  lines = [f'| {" | ".join(row)} |' for row in rows]
  return '\n'.join([f'**{TITLES[name]}**', '', *lines, '', notes(result)])


def notes(result: dict) -> str:
  """The machine's rate and the check of log-probabilities."""
  text = f'Matmul: {result["matmul_flops_per_second"] / 1e9:.0f} GFLOP/s.'
  if result['logp_gap'] is not None:
    text += (
      ' Our log-probabilities against teacher-forced ones of transformers: '
      f'{result["logp_gap"]:.1e} nats at most.'
    )
  return text


def put(path: pathlib.Path, text: str) -> None:
  """Replaces what stands between the markers."""
  before, rest = path.read_text().split(START)
  _, after = rest.split(END)
  path.write_text(f'{before}{START}\n\n{text}\n\n{END}{after}')


if __name__ == '__main__':
  put(HERE / 'README.md', render(read(HERE / 'results.json')))
