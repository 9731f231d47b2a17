"""transformers: `generate`, or `generate_batch` with continuous batching.

Settings: `static=N`, N rows at a time, each batch until its last row ends;
`compiled=N`, the same with a cache of fixed size and `torch.compile`;
`continuous=N`, at most N rows at once, a new one for each that ends.
"""

import functools
import sys
import time

import numpy as np
import protocol
import torch
import transformers
import workload as workload_lib

EDGE = 2048  # of the matrices that measure the machine


def load(directory: str) -> transformers.PreTrainedModel:
  """The model in float32."""
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )
  return model.eval()


def sampling_config(work: workload_lib.Workload):
  """Plain sampling from the whole law."""
  return transformers.GenerationConfig(
    do_sample=True,
    top_k=0,
    top_p=1.0,
    temperature=1.0,
    max_new_tokens=work.cap,
    eos_token_id=work.eos_id,
    pad_token_id=work.pad_id,
  )


def make_static(
  model, work: workload_lib.Workload, rows: int, *, compiled: bool = False
):
  """`seed -> [N, T]` batches, left-padded, rows in the order of the prompts."""
  fill = lambda ids: [work.pad_id] * (work.width - len(ids)) + ids
  ids = torch.tensor([fill(prompt) for prompt in work.repeated])
  mask = (ids != work.pad_id).long()
  config = sampling_config(work)
  if compiled:
    config.cache_implementation = 'static'
    config.compile_config = transformers.CompileConfig(
      mode='default', fullgraph=False
    )
    # On processors too, where it is off by itself.
    config.compile_config._compile_all_devices = True

  def sample(seed: int):
    torch.manual_seed(seed)
    found = []
    with torch.inference_mode():
      for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        whole = model.generate(
          ids[part], attention_mask=mask[part], generation_config=config
        )
        found.append(whole[:, work.width :])
    return found

  return sample, lambda found: [row for part in found for row in part.tolist()]


def make_continuous(model, work: workload_lib.Workload, rows: int):
  """`seed -> outputs`."""
  config = sampling_config(work)

  def sample(seed: int):
    settings = transformers.ContinuousBatchingConfig(
      max_requests_per_batch=rows,
      # Its memory is asked for at every call.
      num_blocks=2 * rows * (work.width + work.cap) // 256 + rows,
      max_batch_tokens=max(512, 2 * rows),
      seed=seed,
    )
    # It works in a thread of its own, which inference mode would not reach.
    with torch.no_grad():
      found = model.generate_batch(
        work.repeated,
        generation_config=config,
        continuous_batching_config=settings,
      )
    return list(found.values())

  return sample, lambda found: [output.generated_tokens for output in found]


def largest_gap(model, path: str) -> float:
  """Largest |log-probability in the file - teacher-forced one here|."""
  stored = np.load(path)
  count = sum(name.startswith('logp_') for name in stored)
  gaps = []
  for i in range(count):
    prompt, response = stored[f'prompt_{i}'], stored[f'response_{i}']
    ids = torch.tensor(np.concatenate([prompt, response]).astype(np.int64))
    with torch.inference_mode():
      logits = model(ids[None]).logits[0, len(prompt) - 1 : -1]
    logp = torch.log_softmax(logits.double(), -1)
    chosen = logp[torch.arange(len(response)), ids[len(prompt) :]].numpy()
    gaps.append(np.abs(chosen - stored[f'logp_{i}']).max())
  return float(max(gaps))


def matmul_rate(repeats: int = 8) -> dict:
  """The best float32 rate of this process, in FLOP/s."""
  a = torch.ones(EDGE, EDGE)
  _ = a @ a
  seconds = []
  for _ in range(repeats):
    began = time.perf_counter()
    _ = a @ a
    seconds.append(time.perf_counter() - began)
  return {'flops_per_second': 2 * EDGE**3 / min(seconds)}


def main() -> None:
  """Serves one workload."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  kind, rows = sys.argv[2].split('=')
  model = load(work.model)
  make = {
    'static': make_static,
    'compiled': functools.partial(make_static, compiled=True),
    'continuous': make_continuous,
  }[kind]
  sample, read = make(model, work, int(rows))
  protocol.serve_sampling(
    port,
    work,
    sample,
    read,
    check=lambda path: {'gap': largest_gap(load(work.model), path)},
    matmul_rate=matmul_rate,
  )


if __name__ == '__main__':
  main()
