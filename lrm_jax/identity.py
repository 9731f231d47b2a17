"""What a checkpoint says of the run that it is of, and does not hold.

    seed, config, fingerprint    of the config
    weights                      {"path", "checksum"} of what never changes
    contents                     {name: SHA-256} of data and tokenizer

A start that would go on with another config, with other frozen weights, or
with other problems or prompts is refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from lrm_jax import configuration, errors
from lrm_jax import workdir as run_folder
from lrm_jax.data import fingerprints


def of_run(
  config: ml_collections.ConfigDict,
  mutable: Sequence[str],
  checksum: str | None,
  contents: Mapping[str, str],
) -> dict[str, Any]:
  """What goes into the host state of every checkpoint.

  Args:
    config: of the run.
    mutable: keys that may change between two starts.
    checksum: of weights that the checkpoint does not hold and that are read
      from `model.path` at every start; None: there are none.
    contents: of what else is read at every start, see `fingerprints.of_run`.
  """
  return {
    'seed': config.seed,
    'config': configuration.to_dict(config),
    'fingerprint': fingerprint(config, mutable),
    'weights': {'path': config.model.path, 'checksum': checksum},
    'contents': dict(contents),
  }


def fingerprint(
  config: ml_collections.ConfigDict, mutable: Sequence[str]
) -> str:
  """SHA-256 of the config as JSON, without the keys that may change."""
  flat = configuration.flatten(configuration.to_dict(config))
  kept = {
    key: value
    for key, value in flat.items()
    if not any(key == m or key.startswith(f'{m}.') for m in mutable)
  }
  text = json.dumps(kept, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def check_config(
  config: ml_collections.ConfigDict,
  mutable: Sequence[str],
  host: Mapping[str, Any],
  step: int,
) -> None:
  """Raises if config.json was lost or changed since the checkpoint.

  Args:
    config: of this start.
    mutable: see `of_run`.
    host: of the checkpoint; one of an earlier version does not say.
    step: of the checkpoint.

  Raises:
    UserError: it names the keys.
  """
  if 'fingerprint' not in host:
    return
  if host['fingerprint'] == fingerprint(config, mutable):
    return
  changes = run_folder.describe_changes(
    host['config'], configuration.to_dict(config), mutable
  )
  # None, if another version of this program lets other keys change.
  if changes:
    raise errors.UserError(
      f'checkpoint {step} was written with another config than config.json '
      f'beside it states: {changes}; give the same config, or another --workdir'
    )


def check_weights(
  config: ml_collections.ConfigDict,
  checksum: str | None,
  host: Mapping[str, Any],
  step: int,
) -> None:
  """Raises if a run would go on with other frozen weights than it had.

  Args:
    config: of this start.
    checksum: see `of_run`.
    host: of the checkpoint; one of an earlier version does not say.
    step: of the checkpoint.

  Raises:
    UserError: it names the path.
  """
  old = host['weights']['checksum'] if 'weights' in host else None
  if None in (old, checksum) or old == checksum:
    return
  raise errors.UserError(
    f"model.path='{config.model.path}': checkpoint {step} was written with "
    f'other weights there (checksum {old[:12]}, now {checksum[:12]}); put that '
    'model back, or start a new run with another --workdir'
  )


def check_contents(
  config: ml_collections.ConfigDict,
  contents: Mapping[str, str],
  host: Mapping[str, Any],
  step: int,
) -> None:
  """Raises if a run would go on with other problems or prompts than it had.

  Args:
    config: of this start.
    contents: see `of_run`.
    host: of the checkpoint; one of an earlier version does not say.
    step: of the checkpoint.

  Raises:
    UserError: it names the first that differs.
  """
  names = changed_contents(contents, host)
  if not names:
    return
  name = names[0]
  what, stated = 'another tokenizer or chat template', name
  if name != fingerprints.TOKENIZER:
    what = 'other rows there'
    stated = f'{name}={config.data[name.removeprefix("data.")]!r}'
  old, new = host['contents'][name], contents[name]
  raise errors.UserError(
    f'{stated}: checkpoint {step} was written with {what} (SHA-256 '
    f'{old[:12]}, now {new[:12]}); put back what was there, or start a new run '
    'with another --workdir'
  )


def changed_contents(
  contents: Mapping[str, str], host: Mapping[str, Any]
) -> list[str]:
  """Names of what was read then and is another now.

  What only one of both knows is not among them: an earlier version wrote the
  checkpoint.
  """
  old = host['contents'] if 'contents' in host else {}
  return [
    name for name in contents if name in old and old[name] != contents[name]
  ]
