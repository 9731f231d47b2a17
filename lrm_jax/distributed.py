"""Several processes, one run: how they meet, and what they agree on.

Every process runs the same program on its own devices. What a host decides from
the clock, a signal, a file or a verifier may differ between hosts, and then
their programs would part; such a decision is one process's, and told to all.
Of one process, every function here is the identity.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lrm_jax.errors import UserError

# Variables of a launcher that has no other way to say it.
COORDINATOR, COUNT, INDEX = (
  'LRM_COORDINATOR',
  'LRM_PROCESSES',
  'LRM_PROCESS',
)
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
    UserError: some of them are there and others not, or they are no numbers.
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


def is_cluster(environment: Mapping[str, str]) -> bool:
  """Whether a launcher that JAX knows started several processes."""
  tpu_hosts = environment.get('TPU_WORKER_HOSTNAMES', '').split(',')
  tasks = (
    environment.get('SLURM_NTASKS', '1'),
    environment.get('OMPI_COMM_WORLD_SIZE', '1'),
    environment.get('JOBSET_REPLICATED_JOB_REPLICAS', '1'),
  )
  return len(tpu_hosts) > 1 or any(n.isdecimal() and int(n) > 1 for n in tasks)


def initialize(timeout: int = 300) -> None:
  """Meets the other processes, if there are any; call it before all else.

  They are found by `stated`, or by JAX: on TPU pods (metadata), Kubernetes,
  SLURM and Open MPI.

  Args:
    timeout: seconds to wait for all of them.

  Raises:
    UserError: they are not there in time; it names them where JAX does.
  """
  told = stated(os.environ)
  if told is None and not is_cluster(os.environ):
    return
  who = {}
  if told is not None:
    who = {
      'coordinator_address': told.coordinator,
      'num_processes': told.count,
      'process_id': told.index,
    }
  try:
    jax.distributed.initialize(
      **who,
      initialization_timeout=timeout,
      heartbeat_timeout_seconds=SILENCE,
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'the processes of this run did not all come within {timeout} s: '
      f'{error}; start every one of them, and let them reach the coordinator'
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
