"""What shaping, selection and advantages cost, beside the rest of a step.

  python experiments/benchmarks/objectives.py

Synthetic rollouts of B=128 problems, G=16 samples and T=8192 tokens go through
phases 4 to 6 of every method in `configs/tiny/`, from NumPy to NumPy as the
trainer does it, with its revision and what its regularizers make of a whole
mini-batch. Measures, which read texts on the host while answers are verified,
have a column of their own: those of SAMPLED responses, times B * G / SAMPLED.

A step of this size is what the rates in `step.json` (the tiny LRM on two
cores) make of its tokens: the cheapest model there is, so for any other the
share is smaller. Writes objectives.json beside this file.
"""

import json
import pathlib
import statistics
import time

import jax
import numpy as np

from lrm_jax import assets, configuration, jsonl, programs
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives.measures import Response
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.reporting import tables
from lrm_jax.structs import Rollouts
from lrm_jax.tokenization import base as tokenization

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
B, G, T = 128, 16, 8192
REPEATS = 3
SAMPLED = 64  # responses whose texts are measured
TRACE = 'a:7+2=9 b:9+3=12 Wait, b:9+3=12 c:12-5=7 '


def make_rollouts(measures: list[str]) -> Rollouts:
  """Lengths from 200 tokens to the cap; most long ones are truncated."""
  random = np.random.default_rng(0)
  length = np.minimum(random.lognormal(8, 0.8, (B, G)).astype(np.int32) + 1, T)
  truncated = length == T
  correct = (random.random((B, G)) < 0.6) & ~truncated
  columns = np.arange(T) < length[..., None]
  ids = random.integers(0, 150_000, (B, G, T), np.int32) * columns
  return Rollouts(
    prompt_ids=np.zeros((B, 1), np.int32),
    prompt_length=np.ones(B, np.int32),
    response_ids=ids,
    length=length,
    thinking_length=length - 1,
    sampler_logp=np.zeros((B, G, T), np.float32),
    forced=np.zeros((B, G, T), bool),
    truncated=truncated,
    think_closed=~truncated,
    correct=correct.astype(np.float32),
    answered=~truncated,
    verified=np.ones((B, G), bool),
    removed=np.zeros((B, G), np.int32),
    stale=np.zeros((B, G), np.int32),
    cap=np.full(B, T, np.int32),
    target=np.full(B, T // 2, np.int32),
    step=np.ones(B, np.int32),
    problem_index=np.arange(B, dtype=np.int32),
    measures={
      name: random.random((B, G)).astype(np.float32) for name in measures
    },
    guards={},
  )


def measure(path: pathlib.Path) -> float:
  """Median seconds of phases 4 to 6."""
  recipe = recipe_lib.build(configuration.load(path))
  shape = programs.make_shape(recipe)
  credit = programs.make_credit(recipe)
  revise, focus = jax.jit(recipe.revision), jax.jit(recipe.focus)
  rollouts = make_rollouts([part.name for part in recipe.measures])
  logp = np.random.default_rng(1).normal(-1, 0.5, (B, G, T)).astype(np.float32)
  ids = [f'problem-{b}' for b in range(B)]
  memory = MemoryStore(recipe.start_memory())

  def once() -> float:
    began = time.perf_counter()
    jax.block_until_ready(revise(rollouts))
    reward, keep, new = jax.device_get(shape(rollouts, memory.take(ids)))
    memory.put(ids, new)
    (advantage,), mask = jax.device_get(credit(reward, keep, rollouts))
    if recipe.needs_statistics:
      old_logp = rollouts.sampler_logp
      jax.block_until_ready(focus(logp, old_logp, advantage, mask))
    return time.perf_counter() - began

  once()  # compiles
  return statistics.median(once() for _ in range(REPEATS))


def measure_texts(path: pathlib.Path) -> float:
  """Seconds that the measures of a method take for B * G responses."""
  recipe = recipe_lib.build(configuration.load(path))
  if not recipe.measures:
    return 0.0
  tokenizer = tokenization.load(assets.resolve('tiny_lrm'))
  lengths = make_rollouts([]).length.ravel()
  trace, last = tokenizer.encode(TRACE), tokenizer.encode(' z:50+49=99')
  total = 0.0
  for length in lengths[:: lengths.size // SAMPLED]:
    # The answer comes last: the whole text is searched.
    ids = (trace * (length // len(trace) + 1))[:length] + last
    text = tokenizer.decode(ids)
    response = Response(
      text=text,
      ids=ids,
      thinking=text,
      thinking_length=len(ids),
      gold='99',
      correct=True,
      tokenizer=tokenizer,
    )
    start = time.perf_counter()
    for part in recipe.measures:
      part.function(response)
    total += time.perf_counter() - start
  return total * B * G / SAMPLED


def step_seconds() -> float:
  """Sampling and update of as many tokens, at the rates of step.json."""
  rates = json.loads((HERE / 'step.json').read_text('utf-8'))
  tokens = int(make_rollouts([]).length.sum())
  return sum(tokens / rates[part]['median'] for part in ('sample', 'update'))


def main() -> None:
  """Measures every method, prints the table, writes the file."""
  whole = step_seconds()
  found = {}
  for path in sorted((ROOT / 'configs' / 'tiny').glob('*.py')):
    if path.stem not in ('__init__', 'setting'):
      found[path.stem] = measure(path), measure_texts(path)
      print(path.stem, *found[path.stem], flush=True)
  header = ('method', 'seconds', 'of a step', 'measures', 'of a step')
  rows = [
    (name, *(text for x in pair for text in (f'{x:.2f}', f'{x / whole:.2%}')))
    for name, pair in sorted(found.items(), key=lambda item: -item[1][0])
  ]
  print(tables.markdown(header, rows))
  jsonl.write_json(
    HERE / 'objectives.json',
    {
      'B': B,
      'G': G,
      'T': T,
      'step_seconds': whole,
      'seconds': {name: pair[0] for name, pair in found.items()},
      'measures_seconds': {name: pair[1] for name, pair in found.items()},
    },
  )


if __name__ == '__main__':
  main()
