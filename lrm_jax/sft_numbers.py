"""Numbers of a supervised step, and totals over all starts of its run."""

from typing import Any

import jax
import ml_collections
import numpy as np

from lrm_jax import clock, goodput, packing, policy, throughput
from lrm_jax.compilation import CompileWatch
from lrm_jax.models.config import ModelConfig

# Totals before the first step, in the host state of a checkpoint; `goodput` is
# that of the last step.
START = {'tokens': 0, 'seconds': 0.0, 'productive_seconds': 0.0, 'goodput': 0.0}


def add_step(
  config: ml_collections.ConfigDict,
  model: ModelConfig,
  totals: dict[str, Any],
  watch: CompileWatch,
  started: float,
  rows: packing.Rows,
  mask: np.ndarray,
  began: float,
) -> dict[str, float]:
  """Adds a step that ends now to the totals.

  Args:
    config: of the run.
    model: the architecture.
    totals: changed in place, where START has names.
    watch: what has been compiled.
    started: the first start of the run; see `goodput.py`.
    rows: of the step, NumPy arrays.
    mask: 1 on tokens that are trained, `[R, S]`.
    began: when the step did, by `clock.py`.

  Returns:
    Numbers of the step for the metrics, and the goodput so far. Tokens are
    those of prompts too.
  """
  ended = clock.now()
  seconds, tokens = ended - began, int((rows.segment_ids > 0).sum())
  work = throughput.rows_work(
    model,
    rows,
    int(mask.sum()),
    lora=policy.read(config) if config.lora.rank else None,
  )
  productive = goodput.productive(began, ended, watch.spans)
  totals['tokens'] += tokens
  totals['seconds'] += seconds
  totals['productive_seconds'] += productive
  totals['goodput'] = goodput.share(
    totals['productive_seconds'], started, ended
  )
  return {
    'tokens': tokens,
    'tokens_per_second': tokens / seconds,
    'goodput': totals['goodput'],
    'model_flops': work,
    **throughput.of_devices(work, seconds),
  }


def summarize(
  config: ml_collections.ConfigDict,
  steps: int,
  host: dict[str, Any],
  watch: CompileWatch,
) -> dict[str, Any]:
  """What the summary says of training, all starts of the run together."""
  return {
    'verb': 'sft',
    'config': config.to_dict(),
    'steps': steps,
    'compile_seconds': watch.seconds,
    'seconds': host['seconds'],
    'tokens_per_second': host['tokens'] / host['seconds'],
    'goodput': host['goodput'],
    'device': jax.devices()[0].device_kind,
  }
