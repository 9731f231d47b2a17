"""Our logits beside those of transformers, for every family.

  python experiments/parity/table.py      (needs torch and transformers)

Random models of `tests/fixtures/make_parity.py`, which exercise every field of
their family, go through `save_pretrained` and our loader. Four ways to run
sequences of 40, 23 and 9 tokens: rows padded on the right, on the left, packed
into one row, and decoded token by token from the cache behind a prompt of 3.

float32: the largest difference of two logits over their standard deviation.
bfloat16: the root mean square of the differences to transformers in float32,
likewise over the deviation; of ours, and of transformers' own bfloat16.
Gradients: of the mean cross-entropy, in float32, the largest error in a tensor
over its largest gradient, of the tensor where that is worst.

Writes results.json and the tables of README.md, what follows its mark; exits 1
where a float32 difference or a gradient's error exceeds 1e-4 or our bfloat16 is
worse than theirs by a quarter.
"""

import pathlib
import sys
import tempfile

import numpy as np

from lrm_jax import jsonl
from lrm_jax.checkpoints import huggingface
from lrm_jax.reporting import tables
from tests.fixtures import make_parity
from tests.models import parity_test, tiny

HERE = pathlib.Path(__file__).parent
SEED, LENGTHS, PROMPT = 0, (40, 23, 9), 3
LIMIT, SLACK = 1e-4, 1.25
HEADER = (
  'model',
  'rows',
  'float32: max difference',
  'bfloat16: ours',
  'bfloat16: transformers',
)
GRADIENT_HEADER = ('model', 'gradient: error', 'worst tensor')
MARK = '<!-- Written by table.py from here on. -->\n'
WAYS = ('right-padded', 'left-padded', 'packed', 'cached')


def ours(config, params, way, inputs) -> np.ndarray:
  """`[tokens, V]` logits of all sequences, one behind the other."""
  rows, padded, masks = inputs
  if way.endswith('-padded'):
    side = way.removesuffix('-padded')
    ids, mask = padded[side], masks[side]
    return parity_test.compute_padded(config, params, ids, mask)[mask]
  if way == 'packed':
    packed = parity_test.compute(config, params, *tiny.pack([rows], 80))[0]
    return packed[: sum(LENGTHS)]
  found = tiny.cached_logits(
    config, params, [r[:PROMPT] for r in rows], [[r[PROMPT:]] for r in rows]
  )
  return np.concatenate([logits for (logits,) in found])


def theirs(model, way, inputs) -> np.ndarray:
  """The same of transformers; each sequence by itself but where padded."""
  rows, padded, masks = inputs
  if way.endswith('-padded'):
    side = way.removesuffix('-padded')
    ids, mask = padded[side], masks[side]
    return make_parity.reference_logits(model, ids, mask)[mask]
  skip = PROMPT - 1 if way == 'cached' else 0
  alone = [make_parity.reference_logits(model, row[None])[0] for row in rows]
  return np.concatenate([logits[skip:] for logits in alone])


def measure(variant: str) -> tuple[list[dict], dict]:
  """A row of the table for each way, and one of that of gradients."""
  inputs = make_parity.make_inputs(SEED, lengths=LENGTHS)
  exact = make_parity.make_model(SEED, variant)
  half = make_parity.make_model(SEED, variant, dtype='bfloat16')
  found = []
  with tempfile.TemporaryDirectory() as directory:
    exact.save_pretrained(directory)
    model = huggingface.load(directory)
    # All of it in bfloat16, the products that give logits too.
    model_half = huggingface.load(
      directory,
      param_dtype='bfloat16',
      compute_dtype='bfloat16',
      logits_dtype='bfloat16',
    )
  for way in WAYS:
    expected = theirs(exact, way, inputs)
    scale = expected.std()
    rms = lambda x: float(np.sqrt(np.mean(np.square(x - expected))) / scale)  # noqa: B023
    difference = np.abs(ours(*model, way, inputs) - expected).max() / scale
    found.append(
      {
        'model': variant,
        'rows': way,
        'float32': float(difference),
        'bfloat16': rms(ours(*model_half, way, inputs)),
        'bfloat16_transformers': rms(theirs(half, way, inputs)),
      }
    )
  # Id 0 is the padding of some, to whose embedding torch gives no gradient.
  row = np.maximum(inputs[0][0], 1)
  with tempfile.TemporaryDirectory() as directory:
    errors = parity_test.gradient_errors(
      exact, *model, row, pathlib.Path(directory) / 'gradients'
    )
  worst = max(errors, key=errors.__getitem__)
  gradient = {'model': variant, 'error': float(errors[worst]), 'tensor': worst}
  return found, gradient


def render(rows: list[dict], gradients: list[dict]) -> str:
  """Both tables in Markdown."""
  cells = [
    (
      row['model'],
      row['rows'],
      f'{row["float32"]:.1e}',
      f'{row["bfloat16"]:.4f}',
      f'{row["bfloat16_transformers"]:.4f}',
    )
    for row in rows
  ]
  slopes = [
    (row['model'], f'{row["error"]:.1e}', row['tensor']) for row in gradients
  ]
  logits = tables.markdown(HEADER, cells)
  return f'{logits}\n\n{tables.markdown(GRADIENT_HEADER, slopes)}\n'


def main() -> None:
  """Measures every variant, writes the files."""
  rows, gradients = [], []
  for name in make_parity.VARIANTS:
    found, gradient = measure(name)
    rows, gradients = rows + found, [*gradients, gradient]
    print(f'{name}: {found[-1]} {gradient}', file=sys.stderr, flush=True)
  jsonl.write_json(
    HERE / 'results.json', {'logits': rows, 'gradients': gradients}
  )
  readme = HERE / 'README.md'
  text, mark, _ = readme.read_text('utf-8').partition(MARK)
  readme.write_text(f'{text}{mark}\n{render(rows, gradients)}', 'utf-8')
  failed = [
    f'{row["model"]} {row["rows"]}'
    for row in rows
    if row['float32'] > LIMIT
    or row['bfloat16'] > SLACK * row['bfloat16_transformers']
  ]
  failed += [
    f'gradient of {row["model"]}' for row in gradients if row['error'] > LIMIT
  ]
  if failed:
    sys.exit(f'beyond the limits: {", ".join(failed)}')


if __name__ == '__main__':
  main()
