"""`lrm`, which tells the file descriptor MARKS what it is at, a line each.

For `crash.py`, which wants to hit every phase. Beside the phases of a step:
load, evaluate, save (a checkpoint leaves the device), publish (it is being
written or gets its name) and export.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

MARKS = int(os.environ['MARKS'])


def mark(name: str) -> None:
  """Tells; nobody may listen any more."""
  try:
    os.write(MARKS, f'{name}\n'.encode())
  except OSError:
    pass


def marked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, which tells its name first, and 'between' at its end."""

  @functools.wraps(function)
  def call(*args, **keywords):
    mark(name)
    result = function(*args, **keywords)
    mark('between')
    return result

  return call


def install() -> None:
  """Marks the phases; the imports take their time."""
  mark('load')
  from lrm_jax import phases, policy, resuming
  from lrm_jax.checkpoints import state
  from lrm_jax.evaluation import run_evaluation

  begin = phases.Clock.begin
  phases.Clock.begin = lambda clock, name: (mark(name), begin(clock, name))[1]
  run_evaluation.evaluate = marked('evaluate', run_evaluation.evaluate)
  resuming.save = marked('save', resuming.save)
  policy.export = marked('export', policy.export)
  runs = state.RunCheckpoints
  runs._publish = marked('publish', runs._publish)


def main() -> int:
  """Runs the command line."""
  from lrm_jax import main as command

  run_recipe = command._run_recipe

  def run(name, args):
    # Not before: the command notes signals by now, and loads nothing earlier.
    install()
    run_recipe(name, args)

  command._run_recipe = run
  return command.main(['lrm', *sys.argv[1:]])


if __name__ == '__main__':
  sys.exit(main())
