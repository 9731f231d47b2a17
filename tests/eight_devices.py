"""Modules of tests as processes of their own, on eight fake devices."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(
  module: str, *words: str | pathlib.Path, **environment: str
) -> subprocess.CompletedProcess:
  """`python -m MODULE WORDS`, which must succeed.

  Args:
    module: that does its work under `__main__`, and prints what it found.
    *words: its arguments.
    **environment: variables besides.

  Returns:
    The process that has ended, with its `stdout` and `stderr`.
  """
  done = subprocess.run(
    [sys.executable, '-m', module, *words],
    cwd=ROOT,
    env=os.environ
    | {
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
      'JAX_PLATFORMS': 'cpu',
    }
    | environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done
