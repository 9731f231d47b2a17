"""How the benchmark talks to its contenders: JSON lines over pipes.

A contender is a process `PYTHON SCRIPT WORKLOAD SETTING`. It makes itself
ready, says so, and then answers one request at a time, so that repeats of
several contenders can alternate while only one of them works:

  -> {"do": "go", "seed": 3}
  <- {"seconds": 1.23, "lengths": [12, 256, ...]}

An end of its input ends it. Nothing is imported that some contender's
environment may lack.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import workload as workload_lib


class Port:
  """The contender's end. Make it first: standard output is then its own."""

  def __init__(self):
    self._out = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    self._began = time.perf_counter()

  def send(self, **fields: Any) -> None:
    """One answer."""
    print(json.dumps(fields), file=self._out, flush=True)

  def ready(self, offers: Sequence[str] = ('go',)) -> None:
    """Everything is loaded, compiled and warm; what may be asked for."""
    seconds = time.perf_counter() - self._began
    self.send(start_seconds=seconds, offers=list(offers))

  def receive(self) -> dict[str, Any] | None:
    """The next request; None at the end of the input."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None

  def serve(self, handlers: Mapping[str, Callable[..., dict]]) -> None:
    """Answers requests by name until there are no more."""
    self.ready(list(handlers))
    while (request := self.receive()) is not None:
      self.send(**handlers[request.pop('do')](**request))


def serve_sampling(
  port: Port,
  work: workload_lib.Workload,
  sample: Callable[[int], Any],
  read: Callable[[Any], list[Sequence[int]]],
  **handlers: Callable[..., dict],
) -> None:
  """Warms up and serves the sampling workloads.

  Args:
    port: from the start of the process.
    work: what is sampled.
    sample: `seed -> output`; what is timed. It returns when all is done.
    read: `output -> rows`, token ids of each response, its end included;
      anything may follow the end.
    **handlers: further requests.
  """

  def go(seed: int) -> dict:
    began = time.perf_counter()
    output = sample(seed)
    seconds = time.perf_counter() - began
    lengths = [work.useful(row) for row in read(output)]
    if len(lengths) != work.rows or not all(lengths):
      raise ValueError(f'{sum(map(bool, lengths))} responses of {work.rows}')
    return {'seconds': seconds, 'lengths': lengths}

  go(seed=0)
  port.serve({'go': go, **handlers})


class Contender:
  """The benchmark's end: a running contender."""

  def __init__(
    self,
    python: str,
    script: pathlib.Path,
    workload: pathlib.Path,
    setting: str,
    *,
    log: pathlib.Path,
    root: pathlib.Path | None = None,
  ):
    """Starts the process and waits until it is ready.

    Args:
      python: its interpreter.
      script: what it runs.
      workload: the file it reads.
      setting: of the contender, such as `rows=64`.
      log: receives its standard error.
      root: on its import path; None: nothing of ours is.
    """
    self.log = log
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    environment |= {'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false'}
    if root is not None:
      environment['PYTHONPATH'] = str(root)
    with log.open('w') as errors:
      self._process = subprocess.Popen(
        [python, str(script), str(workload), setting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        text=True,
      )
    answer = self._receive()
    self.start_seconds, self.offers = answer['start_seconds'], answer['offers']

  def ask(self, do: str, **fields: Any) -> dict[str, Any]:
    """One request and its answer."""
    self._process.stdin.write(json.dumps({'do': do, **fields}) + '\n')
    self._process.stdin.flush()
    return self._receive()

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    try:
      self._process.wait(timeout=30)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()

  def _receive(self) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if not line:
      self._process.wait()
      tail = self.log.read_text(errors='replace')[-2000:]
      raise RuntimeError(f'{" ".join(self._process.args)} ended:\n{tail}')
    return json.loads(line)
