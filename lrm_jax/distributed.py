"""Several processes, one run: how they meet, and what they agree on.

Every process runs the same program on its own devices. What a host decides from
the clock, a signal, a file or a verifier may differ between hosts, and then
their programs would part; such a decision is one process's, and told to all.
Of one process, every function here is the identity.
"""

import inspect
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lrm_jax import liveness, meeting
from lrm_jax.errors import UserError

# Variables of a launcher that has no other way to say it.
COORDINATOR, COUNT, INDEX = (
  'LRM_COORDINATOR',
  'LRM_PROCESSES',
  'LRM_PROCESS',
)
# How long to wait for all processes at the start (seconds), and without it.
START_TIMEOUT, DEFAULT_START_TIMEOUT = 'LRM_START_TIMEOUT', 300
# Seconds after which a silent process is taken for dead.
SILENCE = 30


class Processes(NamedTuple):
  """Who takes part.

  Attributes:
    coordinator: host:port of process 0.
    count: processes.
    index: this one, from 0.
  """

  coordinator: str
  count: int
  index: int


def stated(environment: Mapping[str, str]) -> Processes | None:
  """What the variables say; None where they say nothing.

  Raises:
    UserError: some of them are there and others not, or they are no numbers
      or no address.
  """
  names = (COORDINATOR, COUNT, INDEX)
  values = [environment[name] for name in names if name in environment]
  if not values:
    return None
  if len(values) < len(names):
    missing = [name for name in names if name not in environment]
    raise UserError(
      f'{" and ".join(missing)} not set; several processes need all of '
      f'{", ".join(names)}, a single one none'
    )
  coordinator, *numbers = values
  meeting.split(coordinator)
  if not all(number.isdecimal() for number in numbers):
    raise UserError(
      f'{COUNT}={numbers[0]!r} and {INDEX}={numbers[1]!r} are numbers of '
      'processes; give 2 and 0, for example'
    )
  count, index = map(int, numbers)
  if not index < count:
    raise UserError(
      f'{INDEX}={index} of {COUNT}={count}; processes are counted from 0'
    )
  return Processes(coordinator, count, index)


def named_hosts(environment: Mapping[str, str]) -> list[str]:
  """The hosts of a TPU slice, where variables name them, as in Kubernetes.

  The order is JAX's; before 0.12 it does not know the file.

  Raises:
    UserError: the file that should name them cannot be read.
  """
  path = _said(environment, 'TPU_PROCESS_ADDRESSES_PATH')
  if path:
    try:
      return pathlib.Path(path).read_text(encoding='utf-8').strip().split(',')
    except OSError as error:
      raise UserError(
        f'TPU_PROCESS_ADDRESSES_PATH={path!r}: {error.strerror}; it names a '
        'file with the hosts of this slice'
      ) from None
  for name in ('TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES'):
    if _said(environment, name):
      return environment[name].split(',')
  return []


def _said(environment: Mapping[str, str], name: str) -> str:
  """A variable; '' where it is not set, as launchers leave some empty."""
  return environment[name] if name in environment else ''


def is_cluster(environment: Mapping[str, str]) -> bool:
  """Whether a launcher that JAX knows says that it started several processes.

  What only the metadata server knows is in `is_pod`.
  """
  tasks = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'MEGASCALE_NUM_SLICES')
  numbers = [_said(environment, name) for name in tasks]
  return len(named_hosts(environment)) > 1 or any(
    number.isdecimal() and int(number) > 1 for number in numbers
  )


def has_chips() -> bool:
  """Whether JAX found TPU chips, and its library for them, in this machine."""
  try:
    from jax._src import cloud_tpu_init
  except ImportError:
    return False
  return getattr(cloud_tpu_init, 'running_in_cloud_tpu_vm', False)


def is_pod(environment: Mapping[str, str]) -> bool:
  """Whether this is one of several TPU VMs that make a slice.

  Their metadata server knows. It is asked, through JAX, only where there are
  chips that may be used, and no variable names the hosts.

  Raises:
    UserError: it does not answer. To go on alone would be a guess, and every
      host would make it.
  """
  platforms = _said(environment, 'JAX_PLATFORMS')
  if (
    named_hosts(environment)
    or 'TPU_SKIP_MDS_QUERY' in environment
    or (platforms and 'tpu' not in platforms.split(','))
    or not has_chips()
  ):
    return False
  try:
    # An address and an index, so that JAX finds out the count alone.
    found = detect('', 0, timeout=1)
  except (OSError, ImportError, RuntimeError, ValueError) as error:
    raise UserError(
      'this machine has TPUs, and whether other hosts belong to it is not '
      f'known: {error}; where it is alone, set TPU_WORKER_HOSTNAMES=localhost'
    ) from None
  return found is not None and found[1] not in (None, 1)


def start_timeout(environment: Mapping[str, str]) -> int:
  """Seconds to wait for all processes.

  Raises:
    UserError: the variable is no positive number of them.
  """
  if START_TIMEOUT not in environment:
    return DEFAULT_START_TIMEOUT
  text = environment[START_TIMEOUT]
  if not re.fullmatch(r'[1-9]\d{0,5}', text):
    raise UserError(
      f'{START_TIMEOUT}={text!r} is no whole number of seconds from 1 to '
      f'999999; without it, {DEFAULT_START_TIMEOUT}'
    )
  return int(text)


def detect(
  address: str | None, index: int | None, timeout: int
) -> tuple[str | None, int | None, int | None] | None:
  """JAX's answer: coordinator, count and index, each None if not known.

  JAX has no public function for it; None where this one is not what it was.

  Args:
    address: of the coordinator, where it is known.
    index: of this process, where it is known.
    timeout: seconds to wait for the name of the coordinator.
  """
  try:
    from jax._src.clusters import ClusterEnv

    find = ClusterEnv.auto_detect_unset_distributed_params
    signature = inspect.signature(find)
    arguments = signature.bind(address, None, index, None, None, timeout)
  except (ImportError, AttributeError, TypeError):
    return None
  found = find(*arguments.args)
  return found[:3] if len(found) == 4 else None


def detected(timeout: int) -> Processes | None:
  """What JAX finds out from the launcher; None where it does not say so.

  JAX then brings the processes together alone, and names none.

  Raises:
    RuntimeError: the launcher is known, but the coordinator is not.
  """
  name = 'JAX_COORDINATOR_ADDRESS'
  address = os.environ[name] if name in os.environ else None
  found = detect(address, None, timeout)
  return None if found is None or None in found else Processes(*found)


def initialize() -> None:
  """Meets the other processes, if there are any; call it before all else.

  They are found by `stated`, or by JAX: on TPU VMs (metadata) and TPUs in
  Kubernetes (variables), under SLURM and Open MPI. From then on, `liveness`
  ends this process when another one is lost.

  Raises:
    UserError: they are not there in time; it names them.
  """
  who, timeout = stated(os.environ), start_timeout(os.environ)
  if who is None and not is_cluster(os.environ) and not is_pod(os.environ):
    return
  known = {}
  try:
    if who is None:
      who = detected(timeout)
    if who is not None and who.count == 1:
      return
    if who is not None:
      connections = meeting.meet(*who, timeout)
      liveness.start(connections, who.count, who.index)
      known = {
        'coordinator_address': who.coordinator,
        'num_processes': who.count,
        'process_id': who.index,
      }
    jax.distributed.initialize(
      **known,
      initialization_timeout=timeout,
      heartbeat_timeout_seconds=SILENCE,
    )
  except UserError:
    raise
  except (OSError, ImportError, RuntimeError, ValueError) as error:
    raise UserError(
      f'JAX does not connect the processes of this run: {error}; start every '
      'one of them, and let them reach the coordinator'
    ) from None


def count() -> int:
  """Processes of this run; does not start JAX where there is one."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def is_main() -> bool:
  """Whether this process is the one that writes and prints."""
  return count() == 1 or jax.process_index() == 0


def from_main(function: Callable[[], Any]) -> Any:
  """What `function` gives in the main process, in every process.

  Nobody else calls it. What it raises for users is raised by all.

  Args:
    function: gives what JSON can say.
  """
  if count() == 1:
    return function()
  message = {}
  if is_main():
    try:
      message = {'value': function()}
    except UserError as error:
      message = {'error': str(error)}
  text = np.frombuffer(json.dumps(message).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.zeros(size, np.uint8)
  padded[: min(size, len(text))] = text[:size]
  padded = multihost_utils.broadcast_one_to_all(padded)
  message = json.loads(padded.tobytes())
  if 'error' in message:
    raise UserError(message['error'])
  return message['value']


def of_main(tree: Any) -> Any:
  """The arrays of the main process, in every process; shapes are the same."""
  if count() == 1:
    return tree
  return jax.tree.map(
    lambda x, like: np.asarray(x, np.asarray(like).dtype),
    multihost_utils.broadcast_one_to_all(tree),
    tree,
  )


def any_of(flag: bool) -> bool:
  """Whether it is true in any process."""
  if count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def mine() -> slice:
  """Which rows of a batch this process works on: every n-th."""
  if count() == 1:
    return slice(None)
  return slice(jax.process_index(), None, jax.process_count())


def together(tree: Any, rows: int) -> Any:
  """All rows of a batch, from what each process made of `mine()`.

  Args:
    tree: NumPy arrays with an axis of rows first.
    rows: of all processes.
  """
  if count() == 1:
    return tree
  most = -(-rows // count())

  def one(x: np.ndarray) -> np.ndarray:
    padded = np.zeros((most, *x.shape[1:]), x.dtype)
    padded[: len(x)] = x
    # [processes, rows of each, ...]: row r stands at [r % n, r // n].
    found = multihost_utils.process_allgather(padded)
    found = np.swapaxes(found, 0, 1).reshape(-1, *x.shape[1:])
    return found[:rows].astype(x.dtype)

  return jax.tree.map(one, tree)


def whole(tree: Any) -> Any:
  """Arrays that are divided among processes, whole, on every host."""
  if count() == 1:
    return tree
  return jax.tree.map(
    lambda x: multihost_utils.process_allgather(x, tiled=True), tree
  )
