"""Ours: `Sampler.generate`.

Setting: `slots=N`, rows decoded together, or `slots=N,cap=T` for another cap
than that of the workload.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import protocol
import workload as workload_lib

from lrm_jax import rng
from lrm_jax.checkpoints import huggingface
from lrm_jax.sampler.engine import Sampler
from lrm_jax.tokenization import base

EDGE = 2048  # of the matrices that measure the machine


def make(work: workload_lib.Workload, slots: int, cap: int):
  """`seed -> Samples`."""
  config, params = huggingface.load(work.model)
  params = jax.tree.map(jnp.asarray, params)
  sampler = Sampler(
    config,
    samples=work.samples,
    slots=slots,
    max_prompt_tokens=work.width,
    max_tokens=cap,
    eos_ids=(work.eos_id,),
    pad_id=work.pad_id,
    think_close_ids=base.think_close_ids(base.load(work.model)),
  )
  ids, lengths = (np.array(x, np.int32) for x in work.padded())
  names = [str(i) for i in range(len(lengths))]

  def sample(seed: int):
    return sampler.generate(
      params,
      ids,
      lengths,
      problem_ids=names,
      caps=cap,
      key=rng.stream(seed, 'benchmark'),
    )

  return sample


def read(samples) -> list[list[int]]:
  """Each response without what follows its end."""
  ids = samples.response_ids.reshape(-1, samples.response_ids.shape[-1])
  lengths = samples.length.reshape(-1)
  return [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)]


def matmul_rate(repeats: int = 8) -> dict:
  """The best float32 rate of this process, in FLOP/s."""
  a = jnp.ones((EDGE, EDGE))
  multiply = jax.jit(lambda x: x @ x)
  multiply(a).block_until_ready()
  seconds = []
  for _ in range(repeats):
    began = time.perf_counter()
    multiply(a).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return {'flops_per_second': 2 * EDGE**3 / min(seconds)}


def main() -> None:
  """Serves one workload."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  setting = dict(part.split('=') for part in sys.argv[2].split(','))
  cap = int(setting['cap']) if 'cap' in setting else work.cap
  sample = make(work, int(setting['slots']), cap)

  def dump(path: str, count: int) -> dict:
    """Some responses with our log-probabilities, for the check."""
    samples = sample(seed=0)
    logp = samples.logp.reshape(-1, samples.logp.shape[-1])
    # From all over the workload, not from its first prompts only.
    picked = np.linspace(0, work.rows - 1, count).astype(int)
    rows = read(samples)
    np.savez(
      path,
      **{f'prompt_{i}': work.repeated[row] for i, row in enumerate(picked)},
      **{f'response_{i}': rows[row] for i, row in enumerate(picked)},
      **{
        f'logp_{i}': logp[row, : len(rows[row])] for i, row in enumerate(picked)
      },
    )
    return {'count': count}

  protocol.serve_sampling(
    port, work, sample, read, dump=dump, matmul_rate=matmul_rate
  )


if __name__ == '__main__':
  main()
