"""google-tunix: its vanilla sampler. Setting: `rows=N`, rows in a batch."""

import json
import pathlib
import sys

import jax
import protocol
import workload as workload_lib
from tunix.generate import sampler as sampler_lib
from tunix.models.qwen2 import model as model_lib
from tunix.models.qwen2 import params as params_lib


class Ids:
  """A tokenizer whose texts are ids in decimal; it costs next to nothing."""

  def __init__(self, work: workload_lib.Workload):
    self._work = work

  def encode(self, text: str) -> list[int]:
    """Ids of a text such as '5 17'."""
    return [int(word) for word in text.split()]

  def decode(self, ids: list[int]) -> str:
    """Nothing: the caller reads the ids."""
    del ids
    return ''

  def bos_id(self) -> None:
    """There is none."""

  def eos_id(self) -> int:
    """What ends a response."""
    return self._work.eos_id

  def pad_id(self) -> int:
    """What fills a row."""
    return self._work.pad_id


def load(directory: str) -> tuple[model_lib.Qwen2, model_lib.ModelConfig]:
  """Their own Qwen2 with the weights of the checkpoint, float32."""
  config = json.loads((pathlib.Path(directory) / 'config.json').read_text())
  fields = model_lib.ModelConfig(
    num_layers=config['num_hidden_layers'],
    vocab_size=config['vocab_size'],
    embed_dim=config['hidden_size'],
    hidden_dim=config['intermediate_size'],
    num_heads=config['num_attention_heads'],
    head_dim=config['head_dim'],
    num_kv_heads=config['num_key_value_heads'],
    rope_theta=config['rope_theta'],
    norm_eps=config['rms_norm_eps'],
    use_tied_embedding=config['tie_word_embeddings'],
  )
  model = params_lib.create_model_from_safe_tensors(directory, fields)
  return model, fields


def cache_config(config: model_lib.ModelConfig, length: int):
  """Room for exactly the tokens of a row."""
  return sampler_lib.CacheConfig(
    cache_size=length,
    num_layers=config.num_layers,
    num_kv_heads=config.num_kv_heads,
    head_dim=config.head_dim,
  )


def make(work: workload_lib.Workload, rows: int):
  """`seed -> outputs` of the batches, and what reads them."""
  model, config = load(work.model)
  sampler = sampler_lib.Sampler(
    model, Ids(work), cache_config(config, work.width + work.cap)
  )
  texts = [' '.join(map(str, ids)) for ids in work.repeated]

  def sample(seed: int):
    return [
      sampler(
        texts[start : start + rows],
        max_generation_steps=work.cap,
        max_prompt_length=work.width,
        temperature=1.0,
        top_p=1.0,
        top_k=None,
        # Without one, every call would draw the same.
        seed=jax.random.fold_in(jax.random.key(seed), start),
      )
      for start in range(0, len(texts), rows)
    ]

  def read(outputs) -> list[list[int]]:
    found = [row.tolist() for output in outputs for row in output.tokens]
    # The end is cut off; a row that reached its cap has none.
    return [
      row if len(row) == work.cap else [*row, work.eos_id] for row in found
    ]

  return sample, read


def main() -> None:
  """Serves one workload."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  sample, read = make(work, int(sys.argv[2].removeprefix('rows=')))
  protocol.serve_sampling(port, work, sample, read)


if __name__ == '__main__':
  main()
