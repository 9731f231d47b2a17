"""What `lrm sft` keeps between two starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from lrm_jax import (
  checksum,
  distributed,
  identity,
  metrics,
  rewinding,
  sft_numbers,
)
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.data import fingerprints
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base

# Keys that may change: other devices divide the same sums, and when the state
# is written, or when an alarm ends the run, changes nothing in it.
SAFE = ('mesh', 'checkpoint_every', 'max_skipped')


def restore(
  config: ml_collections.ConfigDict,
  checkpoints: RunCheckpoints,
  state: TrainState,
  frozen: Any,
  contents: Mapping[str, str],
) -> tuple[TrainState, dict[str, Any]]:
  """The state of the newest checkpoint, or that of the start.

  Args:
    config: of the run.
    checkpoints: of the run.
    state: before the first step.
    frozen: parameters that adapters are trained on; None: there are none.
    contents: see `contents_of`.

  Returns:
    The state, and the host state: `cursors`, the totals of `sft_numbers.START`
    and `identity.of_run`. `save` writes both.

  Raises:
    UserError: see `resuming.restore`.
  """
  weights = None if frozen is None else checksum.of_params(frozen)
  host = {'cursors': [0] * len(config.stages), 'skipped_in_row': 0}
  host |= sft_numbers.START
  step, position = checkpoints.latest_step(), metrics.START
  if step is not None:
    stored = checkpoints.restore_host(step)
    identity.check_config(config, SAFE, stored, step)
    identity.check_contents(config, contents, stored, step)
    state = checkpoints.restore_state(step, state)
    identity.check_weights(config, weights, stored, step)
    position = stored.pop('metrics', None)
    host |= stored
  # One process: they share the folder.
  distributed.from_main(
    lambda: rewinding.rewind(checkpoints.workdir, int(state.step), position)
  )
  return state, host | identity.of_run(config, SAFE, weights, contents)


def contents_of(
  tokenizer: base.Tokenizer, rows: Sequence[Mapping[str, Any]] | None
) -> dict[str, str]:
  """The digests of what is read at every start, by the names of messages.

  Args:
    tokenizer: of the run.
    rows: demonstrations of a file; None: they are generated.
  """
  found = {}
  if rows is not None:
    found[fingerprints.TRAIN] = fingerprints.of_demonstrations(rows)
  return found | {fingerprints.TOKENIZER: tokenizer.fingerprint}


def save(
  checkpoints: RunCheckpoints,
  state: TrainState,
  host: dict[str, Any],
  position: dict[str, int],
) -> None:
  """Writes a checkpoint; `position` is that of metrics.jsonl."""
  checkpoints.save(int(state.step), state, host | {'metrics': position})
