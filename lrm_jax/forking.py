"""`--fork-from`: a new run from any checkpoint of another one.

A fork takes over the parameters and the optimizer, the number of its step, the
memory of the recipe, the place in the data, groups in flight and the count of
sampled tokens. With the same config it goes on as the other run did, bit for
bit. What a changed config has no use for is said, one line each.

    source's checkpoint -> experiment -> a first checkpoint of the new run

From then on it is a run like others, that needs neither the flag nor the old
folder. Its config.json records where it comes from:

    "forked_from": {"workdir": ..., "step": ..., "fingerprint": ...}
"""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from lrm_jax import (
  configuration,
  distributed,
  flights,
  identity,
  resuming,
  storage,
)
from lrm_jax import workdir as run_folder
from lrm_jax.checkpoints import recovery, state
from lrm_jax.checkpoints.state import RunCheckpoints, StoredCheckpoints
from lrm_jax.data import fingerprints
from lrm_jax.errors import UserError
from lrm_jax.experiment import Experiment, set_state

# Keys that say what the arrays of a checkpoint are. Others may change.
_SAME = ('model.path', 'model.param_dtype', 'lora', 'optimizer.name')
# What the place in the data refers to, beside what the stream itself knows.
_DATA = (
  *(f'data.{k}' for k in ('train', 'train_split', 'train_problems', 'dir')),
  'objective.curriculum',
)
# What groups in flight were begun with.
_FLIGHTS = tuple(
  f'train.{name}'
  for name in (
    'partial_tokens in_flight problems samples max_tokens thinking_budget '
    'temperature truncation'
  ).split()
)


def origin(
  workdir: storage.Path,
  fork_from: str | None,
  config: ml_collections.ConfigDict,
) -> dict[str, Any] | None:
  """Where a run comes from, as config.json records it; None for most.

  Writes nothing. A run that is there already keeps its origin.

  Args:
    workdir: of the run.
    fork_from: what the flag says: a run's folder, or one of its checkpoints.
    config: of the run.

  Raises:
    UserError: there is no such checkpoint, or it is damaged, or the config
      wants another model or optimizer; or the run there is no fork of it.
  """
  own = workdir / 'config.json'
  with storage.explained(workdir):
    old = run_folder.read_record(own) if own.exists() else None
  known = old['forked_from'] if old and 'forked_from' in old else None
  if fork_from is None:
    return known
  source, step = parse(fork_from)
  if old is not None:
    if known is None or known['workdir'] != _absolute(source):
      raise UserError(
        f"--workdir='{workdir}' holds a run that is no fork of '{source}'; "
        'give a new folder, or no --fork-from to resume it'
      )
    if step not in (None, known['step']):
      raise UserError(
        f"--workdir='{workdir}' was forked from step {known['step']}, not "
        f'{step}; give a new folder, or no --fork-from to resume it'
      )
    return known
  record = _read_source(source)
  _check_config(record['config'], configuration.to_dict(config), source)
  with storage.explained(source):
    step = recovery.choose(source, step)
  host = recovery.read_host(state.folder_of(source) / str(step))
  return {
    'workdir': _absolute(source),
    'step': step,
    # Earlier versions did not write it.
    'fingerprint': host['fingerprint'] if 'fingerprint' in host else None,
  }


def parse(text: str) -> tuple[storage.Path, int | None]:
  """(folder of a run, step) of DIR or DIR/checkpoints/STEP."""
  path = storage.as_path(text)
  if path.name.isdecimal() and path.parent.name == 'checkpoints':
    return path.parent.parent, int(path.name)
  return path, None


def begin(
  experiment: Experiment,
  checkpoints: RunCheckpoints,
  source: dict[str, Any] | None,
) -> None:
  """Writes the first checkpoint of a fork, if it has none yet.

  Args:
    experiment: as built; holds what is taken over afterwards.
    checkpoints: of the new run.
    source: from `origin`; None: not a fork.

  Raises:
    UserError: the checkpoint does not fit, or cannot be read any more.
  """
  if source is None or checkpoints.latest_step() is not None:
    return
  step, workdir = source['step'], storage.as_path(source['workdir'])
  distributed.from_main(lambda: recovery.choose(workdir, step))
  stored = StoredCheckpoints(workdir)
  host = stored.restore_host(step)
  resuming.check_version(host, step)
  take_over(experiment, stored, host, step)
  stored.close()
  resuming.save(experiment, checkpoints)
  checkpoints.wait()


def take_over(
  experiment: Experiment,
  stored: StoredCheckpoints,
  host: Mapping[str, Any],
  step: int,
) -> None:
  """Brings an experiment to where another run was, as far as it fits."""
  tree = stored.stored(step)
  like = resuming.like(experiment, host)
  parts = _same_memory(tree, like)
  is_in_place = _set_stream(experiment, host)
  if fingerprints.TOKENIZER in _changed(experiment, host):
    _say('fork: prompts change: another tokenizer or chat template')
  is_in_flight = _fit_flights(experiment, host, tree, like, is_in_place)
  wanted = {
    'train': experiment.state,
    'memory': _of_any_shape(_item(tree, 'memory'))
    | {part: like['memory'][part] for part in parts},
    'flights': like['flights']
    if is_in_flight
    else _of_any_shape(_item(tree, 'flights')),
  }
  if 'waiting' in host:
    wanted['waiting'] = _of_any_shape(_item(tree, 'waiting'))
    if host['waiting'] is not None:
      _say('fork: the batch that was sampled ahead is left behind')
  found = stored.restore_state(step, wanted)
  held = resuming.weights(experiment)
  identity.check_weights(experiment.config, held, host, step)
  set_state(experiment, found['train'])
  tables = like['memory'] | {part: found['memory'][part] for part in parts}
  experiment.memory.set_state(tables, host['problem_ids'])
  if is_in_flight:
    experiment.flights = flights.set_state(found['flights'], host['flights'])
  experiment.sampled_tokens = host['sampled_tokens']


def _read_source(source: storage.Path) -> dict[str, Any]:
  path = source / 'config.json'
  with storage.explained(source):
    if not path.exists():
      raise UserError(
        f"--fork-from: '{source}' is no folder of a run; give one of lrm "
        'train, or one of its checkpoints: DIR/checkpoints/STEP'
      )
    record = run_folder.read_record(
      path, 'give --fork-from a folder of a run of lrm train, not its model/'
    )
  if record['verb'] != 'train':
    raise UserError(
      f"--fork-from: '{source}' is a run of lrm {record['verb']}; give one of "
      "lrm train, or that run's model/ as model.path"
    )
  return record


def _check_config(
  old: Mapping[str, Any], new: Mapping[str, Any], source: storage.Path
) -> None:
  """Refuses another model or optimizer: the arrays would mean other things."""
  keep = lambda config: _pick(config, _SAME)
  changes = run_folder.describe_changes(keep(old), keep(new), ())
  if changes:
    raise UserError(
      f"--fork-from='{source}': the model and the optimizer must be those of "
      f'that run: {changes}; give these keys the same values, or start from '
      'its exported model/ as model.path'
    )


def _pick(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
  """Keys of these names and groups, flat."""
  return {
    key: value
    for key, value in configuration.flatten(config).items()
    if any(key == name or key.startswith(f'{name}.') for name in names)
  }


def _same_memory(tree: Any, like: Mapping[str, Any]) -> list[str]:
  """Parts whose memory is taken over; says what becomes of the others."""
  old, new = _item(tree, 'memory'), like['memory']
  for part in sorted(old.keys() - new.keys()):
    _say(f'fork: the memory of {part} is left behind; the recipe has no {part}')
  same = []
  for part in sorted(new):
    if part not in old:
      _say(f'fork: {part} remembers nothing yet; the other run had no {part}')
    elif state.shapes(old[part]) != state.shapes(new[part]):
      _say(f'fork: the memory of {part} begins anew; it has other shapes now')
    else:
      same.append(part)
  return same


def _set_stream(experiment: Experiment, host: Mapping[str, Any]) -> bool:
  """Goes to the place in the data, if it is the same data; says if not."""
  reason = ''
  if 'config' in host:
    new = configuration.to_dict(experiment.config)
    reason = run_folder.describe_changes(
      _pick(host['config'], _DATA), _pick(new, _DATA), ()
    )
  if not reason and fingerprints.TRAIN in _changed(experiment, host):
    reason = 'data.train holds other problems than it did'
  if not reason:
    try:
      experiment.stream.set_state(host['stream'])
      return True
    except UserError as error:
      reason = str(error).partition(';')[0]
  _say(f'fork: the data begins anew: {reason}')
  return False


def _fit_flights(
  experiment: Experiment,
  host: Mapping[str, Any],
  tree: Any,
  like: Any,
  is_in_place: bool,
) -> bool:
  """Whether groups in flight can go on; says if not."""
  if not host['flights']:
    return True
  new = configuration.to_dict(experiment.config)
  old = host['config'] if 'config' in host else new
  reason = run_folder.describe_changes(
    _pick(old, _FLIGHTS), _pick(new, _FLIGHTS), ()
  )
  if fingerprints.TOKENIZER in _changed(experiment, host):
    reason = 'their prompts are the old ones'
  is_same = state.shapes(_item(tree, 'flights')) == state.shapes(
    like['flights']
  )
  if is_same and is_in_place and not reason:
    return True
  count = sum(len(flight['problems']) for flight in host['flights'])
  why = f': {reason}' if reason else ''
  _say(f'fork: {count} groups in flight are left behind{why}')
  return False


def _changed(experiment: Experiment, host: Mapping[str, Any]) -> list[str]:
  return identity.changed_contents(experiment.contents, host)


def _item(tree: Any, name: str) -> dict[str, Any]:
  """A part of a stored tree; an empty one may not be there."""
  return dict(tree[name]) if name in tree and tree[name] else {}


def _of_any_shape(tree: Any) -> Any:
  """Arrays that take no room, of the shapes of stored ones."""
  return jax.tree.map(
    lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape),
    tree,
    is_leaf=lambda x: hasattr(x, 'shape'),
  )


def _absolute(path: storage.Path) -> str:
  return str(path if storage.is_remote(path) else path.absolute())


def _say(text: str) -> None:
  if distributed.is_main():
    print(f'lrm: {text}', file=sys.stderr, flush=True)
