"""Ours: one GRPO step of the trainer, `lrm train` without its files.

Setting: `slots=N,rows=R`: N responses decoded at once, R packed rows in a
micro-batch of the update.
"""

import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import lrm_jax_sampling
import ml_collections
import protocol
import workload as workload_lib

from configs import default, objectives
from lrm_jax import experiment as experiment_lib
from lrm_jax import gathering, jsonl, updating
from lrm_jax.data import prompts
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.tokenization import base as tokenization


class HashGrader:
  """Grades by the text alone, as the other contenders do."""

  def grade(
    self,
    pairs: list[tuple[str, str]],
    check: Callable[[], None] | None = None,
  ) -> list[Verdict]:
    """A verdict for each (response, gold answer)."""
    return [
      Verdict(workload_lib.reward(text) > 0, text, 'ok') for text, _ in pairs
    ]


def make_config(
  work: workload_lib.Workload, folder: pathlib.Path, slots: int, rows: int
) -> ml_collections.ConfigDict:
  """GRPO without KL on the prompts of the workload, one update a step."""
  tokenizer = tokenization.load(work.model)
  workload_lib.check_texts(
    work,
    lambda text: prompts.encode_prompt(
      tokenizer, text.removesuffix(' <think>')
    ),
  )
  problems = folder / 'problems.jsonl'
  jsonl.write_rows(
    problems,
    [
      # The template of the checkpoint opens thinking itself.
      {'id': str(i), 'question': workload_lib.to_text(p[:-1]), 'answer': '0'}
      for i, p in enumerate(work.prompts)
    ],
  )
  config = default.get_config()
  config.model.path = work.model
  config.model.scan_unroll = 4  # all layers
  config.data.train = config.data.eval = str(problems)
  config.data.max_prompt_tokens = work.width
  config.train.steps = 10**6  # the benchmark stops it
  config.train.problems = len(work.prompts)
  config.train.samples = work.samples
  config.train.max_tokens = config.eval.max_tokens = work.cap
  config.train.max_rounds = 1
  config.train.row_length = -(-(work.width + work.cap) // 16) * 16
  config.train.rows = rows
  config.sampler.slots = slots
  config.optimizer.learning_rate = 1e-6  # so that lengths stay what they are
  config.objective = objectives.compose(budget=objectives.constant(work.cap))
  return config


def make(config: ml_collections.ConfigDict):
  """`() -> numbers` of one step."""
  experiment = experiment_lib.build(config, HashGrader())
  done = 0

  def step() -> dict:
    nonlocal done
    done += 1
    began = time.perf_counter()
    batch = gathering.gather(experiment, done)
    batch, credit = updating.credit(
      experiment, updating.score(experiment, batch)
    )
    sampled = time.perf_counter()
    numbers = updating.update(experiment, batch, credit)
    updating.wait(numbers)
    jax.block_until_ready(experiment.state)
    ended = time.perf_counter()
    return {
      'seconds': ended - began,
      'sample_seconds': sampled - began,
      'lengths': batch.rollouts.length.reshape(-1).tolist(),
    }

  return step


def main() -> None:
  """Serves steps."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  setting = dict(part.split('=') for part in sys.argv[2].split(','))
  with tempfile.TemporaryDirectory() as folder:
    config = make_config(
      work, pathlib.Path(folder), int(setting['slots']), int(setting['rows'])
    )
    step = make(config)
    step(), step()
    port.serve(
      {
        'go': lambda seed: step(),
        'matmul_rate': lrm_jax_sampling.matmul_rate,
      }
    )


if __name__ == '__main__':
  main()
