"""How much of this machine one RL step reaches, beside its matmul rate.

  python experiments/benchmarks/step.py            (update and sampling)
  python experiments/benchmarks/step.py --peer     (sampling beside
      transformers.generate: needs torch and transformers)

128 responses x 128 tokens on the embedded tiny LRM, float32. Prints medians
of five and their spread, and writes step.json beside this file. Compilation is
not timed.
"""

import argparse
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrm_jax import (
  assets,
  configuration,
  flops,
  jsonl,
  packing,
  rng,
  train_step,
)
from lrm_jax.checkpoints import huggingface
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.sampler.engine import Sampler
from lrm_jax.structs import Rollouts, TrainState

ROOT = pathlib.Path(__file__).parents[2]
B, G, P, T = 16, 8, 32, 128
NO_EOS = -1  # so that every response has all its tokens


def timed(function, repeats: int = 5) -> list[float]:
  """Seconds of each repeat after one that is not counted."""
  jax.block_until_ready(function())
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function())
    seconds.append(time.perf_counter() - start)
  return seconds


def matmul_flops() -> float:
  """The machine's float32 rate: the best 2048-cube of twenty."""
  a = jnp.ones((2048, 2048))
  multiply = jax.jit(lambda x: x @ x)
  return 2 * 2048**3 / min(timed(lambda: multiply(a), 20))


def spread(name: str, seconds: list[float], tokens: int) -> dict:
  """Prints and returns tokens per second: median, lowest, highest."""
  rates = sorted(tokens / s for s in seconds)
  found = {
    'median': statistics.median(rates),
    'low': rates[0],
    'high': rates[-1],
  }
  print(
    f'{name}: {found["median"]:,.0f} tokens/s '
    f'({found["low"]:,.0f} to {found["high"]:,.0f})'
  )
  return found


def make_rollouts() -> Rollouts:
  """Random tokens: B groups of G full-length responses."""
  random = np.random.default_rng(0)
  full = np.full((B, G), T, np.int32)
  return Rollouts(
    prompt_ids=random.integers(5, 150, (B, P)).astype(np.int32),
    prompt_length=np.full(B, P, np.int32),
    response_ids=random.integers(5, 150, (B, G, T)).astype(np.int32),
    length=full,
    thinking_length=full,
    sampler_logp=np.full((B, G, T), -3.0, np.float32),
    forced=np.zeros((B, G, T), bool),
    truncated=np.ones((B, G), bool),
    think_closed=np.zeros((B, G), bool),
    correct=np.zeros((B, G), np.float32),
    answered=np.zeros((B, G), bool),
    verified=np.ones((B, G), bool),
    removed=np.zeros((B, G), np.int32),
    stale=np.zeros((B, G), np.int32),
    cap=np.full(B, T, np.int32),
    target=np.zeros(B, np.int32),
    step=np.ones(B, np.int32),
    problem_index=np.arange(B, dtype=np.int32),
    measures={},
    guards={},
  )


def update_benchmark(model, params) -> dict:
  """The whole DLER update: reference pass, gradient and AdamW."""
  config = configuration.load(ROOT / 'configs' / 'default.py', [])
  optimizer = optax.adamw(1e-5)
  update = train_step.make_update(
    model, recipe_lib.build(config), optimizer, temperature=1.0
  )
  rollouts = make_rollouts()
  packed = packing.pack_groups(
    rollouts,
    np.ones((B, G), bool),
    rows=64,
    row_length=P + T,
    groups_per_micro_batch=8,
  )
  advantage = np.random.default_rng(1).normal(size=(B, G, T))
  targets = train_step.Targets(
    rollouts.sampler_logp,
    (advantage.astype(np.float32),),
    rollouts.mask,
    rollouts.stale,
    rollouts.thinking_length,
  )
  state = [
    TrainState(
      jnp.int32(0), jax.tree.map(jnp.copy, params), optimizer.init(params)
    )
  ]

  def step():
    state[0], metrics = update(state[0], params, packed, targets)
    return metrics

  tokens = B * G * (P + T)
  seconds = timed(step)
  found = spread('update', seconds, tokens)
  # A reference policy goes over the same rows.
  lengths = np.full(B * G, P + T)
  work = flops.update(model, lengths, logits=B * G * T, forwards=1)
  peak = matmul_flops()
  rate = work / statistics.median(seconds)
  print(
    f'update: {work / 1e9:.1f} GFLOP at {rate / 1e9:.1f} GFLOP/s = '
    f'{100 * rate / peak:.1f} % of {peak / 1e9:.0f} GFLOP/s'
  )
  return found | {
    'gflop': work / 1e9,
    'gflop_per_second': rate / 1e9,
    'peak_gflop_per_second': peak / 1e9,
    'utilization': rate / peak,
  }


def sampling(model, params):
  """A function that samples B x G x T tokens, prompts of P."""
  sampler = Sampler(
    model,
    samples=G,
    slots=B * G,
    max_prompt_tokens=P,
    max_tokens=T,
    eos_ids=(NO_EOS,),
    pad_id=0,
    think_close_ids=(4,),
  )
  prompts = make_rollouts().prompt_ids

  def sample():
    return sampler.generate(
      params,
      prompts,
      np.full(B, P, np.int32),
      problem_ids=[str(i) for i in range(B)],
      caps=T,
      key=rng.stream(0, 'benchmark'),
    ).length

  return sample


def peer_sampling(directory):
  """The same with transformers.generate, its static batch."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  ).eval()
  model.generation_config.eos_token_id = None
  prompts = torch.tensor(np.repeat(make_rollouts().prompt_ids, G, axis=0))

  def sample():
    with torch.inference_mode():
      out = model.generate(
        prompts.long(),
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        top_k=0,
        max_new_tokens=T,
        pad_token_id=0,
      )
    return np.asarray(out)

  return sample


def main() -> None:
  """Runs what was asked for and writes the numbers."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--peer', action='store_true')
  arguments = parser.parse_args()
  directory = assets.resolve('tiny_lrm')
  model, params = huggingface.load(directory, scan_unroll=2)
  params = jax.tree.map(jnp.asarray, params)
  results = {
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'update': update_benchmark(model, params),
  }
  ours = sampling(model, params)
  if not arguments.peer:
    results['sample'] = spread('sample', timed(ours), B * G * T)
  else:
    theirs = peer_sampling(directory)
    ours(), theirs()
    seconds = {'sample': [], 'transformers': []}
    for _ in range(5):  # alternating, so that both see the same machine
      for name, function in (('sample', ours), ('transformers', theirs)):
        start = time.perf_counter()
        function()
        seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
      results[name] = spread(name, values, B * G * T)
  path = pathlib.Path(__file__).with_name('step.json')
  jsonl.write_json(path, results)


if __name__ == '__main__':
  main()
