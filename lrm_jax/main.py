"""The `lrm` command: one verb, its flags; mistakes end in one line.

Exit codes: 0 done, or stopped by a signal with all of it saved (LRM_STOP_CODE
may ask for another code then), 2 a mistake the user can cure, 130 interrupted,
75 another process of the run was lost (start all again), 1 a check that failed
or a bug (with its traceback). Nothing heavy is imported before the verb is
known.
"""

import importlib
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

import lrm_jax
from lrm_jax import configuration, errors, interrupts, liveness, storage


class Verb(NamedTuple):
  """Where a verb lives, its help line, and whether a config file drives it.

  The module of a recipe has `run(config, workdir)`; the others have
  `define_flags(flag_values)` and `run(flag_values)`, or, where a config is
  among the flags, `run(flag_values, overrides)`, or, where words follow the
  verb, `run(flag_values, words)`.
  """

  module: str
  help: str
  is_recipe: bool = False
  has_config: bool = False
  words: str = ''  # what they are, such as DIR; at least one is needed


VERBS = {
  'train': Verb('lrm_jax.train', 'reinforcement learning from a recipe', True),
  'sft': Verb('lrm_jax.sft', 'supervised training on reasoning traces', True),
  'eval': Verb('lrm_jax.commands.evaluate', 'accuracy and tokens of a model'),
  'sample': Verb('lrm_jax.commands.sample', 'responses to prompts'),
  'score': Verb('lrm_jax.commands.score', 'log-probability of every token'),
  'grade': Verb('lrm_jax.commands.grade', 'verdicts on the answers given'),
  'replay': Verb(
    'lrm_jax.commands.replay', 'stored rollouts under other recipes'
  ),
  'report': Verb(
    'lrm_jax.commands.report',
    'one page of HTML about runs and their rollouts',
    words='DIR',
  ),
  'convert': Verb('lrm_jax.commands.convert', 'models between formats'),
  'plan': Verb(
    'lrm_jax.commands.plan',
    'memory and speed of a config on devices that need not be here',
    has_config=True,
  ),
  'table': Verb(
    'lrm_jax.commands.table',
    "a paper's claims beside our numbers",
    words='NAME',
  ),
}
# Variable of a launcher, to which 0 says that the run has come to its end.
STOP_CODE = 'LRM_STOP_CODE'
_HELP_FLAGS = {'--help', '-h', '-help'}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs argv (program name first, sys.argv if None); returns the exit code."""
  # Libraries such as grain read absl's global flags, which we never parse.
  flags.FLAGS.mark_as_parsed()
  code = 1
  try:
    code = _exit_code(list(sys.argv if argv is None else argv)[1:])
  finally:
    liveness.leave(code)
  return code


def cli() -> None:
  """Entry point of the console script."""
  sys.exit(main(sys.argv))


def _exit_code(argv: list[str]) -> int:
  try:
    _dispatch(argv)
  except errors.UserError as error:
    print('lrm: error:', errors.one_line(error), file=sys.stderr)
    return 2
  except OSError as error:
    if error.errno not in errors.NO_ROOM:
      raise
    print(
      'lrm: error:', errors.one_line(errors.no_room(error)), file=sys.stderr
    )
    return 2
  except errors.CheckFailed as error:
    print('lrm: check failed:', errors.one_line(error), file=sys.stderr)
    return 1
  except errors.Stopped as stopped:
    print('lrm:', stopped, file=sys.stderr)
    return stop_code()
  except KeyboardInterrupt:
    print('lrm: interrupted', file=sys.stderr)
    return 130
  return 0


def stop_code() -> int:
  """The exit code of a run that was stopped: LRM_STOP_CODE, or else 0.

  Raises:
    UserError: the variable is no exit code.
  """
  if STOP_CODE not in os.environ:
    return 0
  text = os.environ[STOP_CODE]
  if not re.fullmatch(r'\d{1,3}', text, re.ASCII) or int(text) > 255:
    raise errors.UserError(
      f'{STOP_CODE}={text!r} is no exit code; give a number from 0 to 255, or '
      'unset it'
    )
  return int(text)


def _dispatch(argv: list[str]) -> None:
  name, *args = argv if argv else ['--help']
  if name in _HELP_FLAGS:
    print(_overview())
  elif name == '--version':
    print('lrm', lrm_jax.__version__)
  elif name not in VERBS:
    near = configuration.nearest(name, VERBS)
    raise errors.UserError(f"unknown verb '{name}'{near}; see lrm --help")
  elif VERBS[name].is_recipe:
    # Before all else: loading takes its time, and may be told to stop too.
    with interrupts.Interrupts():
      _run_recipe(name, args)
  else:
    module = importlib.import_module(VERBS[name].module)
    values = flags.FlagValues()
    values.set_gnu_getopt()  # Flags may follow words.
    module.define_flags(values)
    overrides = _overrides(args) if VERBS[name].has_config else []
    rest = [arg for arg in args if arg not in overrides]
    words = _parse(name, values, rest)
    if words is not None:
      more = [overrides] if VERBS[name].has_config else []
      module.run(values, *more, *([words] if VERBS[name].words else []))


def _run_recipe(name: str, args: list[str]) -> None:
  values = flags.FlagValues()
  define = flags.DEFINE_string
  text = (
    'Config file; --config.KEY=VALUE sets a key. It is Python, and is run: '
    'give only files that you wrote or have read.'
  )
  define('config', None, text, values)
  text = 'Folder of the run, or gs://BUCKET/FOLDER; resumes the run in it.'
  define('workdir', None, text, values)
  text = 'Steps to trace into WORKDIR/profile, such as 3 or 3-5.'
  define('profile', None, text, values)
  text = 'Start a new run from that run, or from DIR/checkpoints/STEP.'
  define('fork-from', None, text, values)
  text = 'Print the resolved config and stop.'
  flags.DEFINE_bool('print_config', False, text, values)
  overrides = _overrides(args)
  rest = [arg for arg in args if arg not in overrides]
  if _parse(name, values, rest) is None:
    return
  stop_code()  # Not when it is needed first.
  example = f'lrm {name} --config=configs/quickstart.py --workdir=runs/quick'
  if values.config is None:
    raise errors.UserError(f'--config is missing; e.g. {example}')
  config = configuration.load(
    values.config, [o.removeprefix('--') for o in overrides]
  )
  if values.print_config:
    print(configuration.to_json(config))
  elif values.workdir is None:
    raise errors.UserError(f'--workdir is missing; e.g. {example}')
  else:
    steps = _steps(values.profile)
    workdir = storage.as_path(values.workdir)
    fork_from = values['fork-from'].value
    if fork_from is not None and name != 'train':
      raise errors.UserError(
        f'--fork-from is for lrm train, not for lrm {name}; give the model/ of '
        'the other run as --config.model.path'
      )
    module = importlib.import_module(VERBS[name].module)
    more = [] if fork_from is None else [fork_from]
    module.run(config, workdir, steps, *more)


def _overrides(args: Sequence[str]) -> list[str]:
  return [arg for arg in args if arg.startswith('--config.')]


def _steps(text: str | None) -> range:
  """The steps that `--profile=TEXT` asks for: '3' or '3-5', from 1.

  Raises:
    UserError: it is neither.
  """
  if text is None:
    return range(0)
  found = re.fullmatch(r'([1-9]\d*)(?:-([1-9]\d*))?', text)
  first, last = found.groups() if found else ('1', '0')
  steps = range(int(first), int(first if last is None else last) + 1)
  if not steps:
    raise errors.UserError(
      f'--profile={text!r}: give a step, such as 3, or the first and the last '
      'of several, such as 3-5'
    )
  return steps


def _parse(
  name: str, values: flags.FlagValues, args: list[str]
) -> list[str] | None:
  """Fills values; the words between flags, None if help was printed instead."""
  if _HELP_FLAGS & set(args):
    print(_verb_help(name, values))
    return None
  see = f'lrm {name} --help explains the flags'
  try:
    rest = values(['lrm', *args])[1:]
  except flags.UnrecognizedFlagError as error:
    flag = error.flagname.partition('.')[0]
    near = configuration.nearest(f'--{flag}', [f'--{f}' for f in values])
    raise errors.UserError(
      f"unknown flag '--{error.flagname}'{near}; {see}"
    ) from None
  except flags.Error as error:
    missing = re.match(r'flag --(\w+)=None: .*other than None', str(error))
    if missing:
      raise errors.UserError(f'--{missing[1]} is missing; {see}') from None
    raise errors.UserError(f'bad flag ({error}); {see}') from None
  kind = VERBS[name].words
  if rest and not kind:
    raise errors.UserError(f"unexpected argument '{rest[0]}'; {see}")
  if kind and not rest:
    raise errors.UserError(f'{kind} is missing: lrm {name} {kind} ...; {see}')
  return rest


def _overview() -> str:
  verbs = [f'  {name:<8}{verb.help}' for name, verb in VERBS.items()]
  head = 'lrm: train large reasoning models to think in fewer tokens'
  foot = 'lrm VERB --help explains a verb, lrm --version prints the version'
  return '\n'.join([head, '', 'usage: lrm VERB --flag=value ...', *verbs, foot])


def _verb_help(name: str, values: flags.FlagValues) -> str:
  words = f' {VERBS[name].words} ...' if VERBS[name].words else ''
  lines = [f'lrm {name}{words}: {VERBS[name].help}', '']
  for flag in [values[key] for key in values]:
    # absl says 'comma separated list of strings', 'string enum', 'int'.
    kind = '' if flag.boolean else f'={flag.flag_type().split()[-1].upper()}'
    text = flag.help
    if any('other than None' in v.message for v in flag.validators):
      text += ' (required)'
    elif flag.default not in (None, ''):
      text += f' (default: {flag.default_as_str.strip(chr(39))})'
    text = f'  --{flag.name}{kind}  '.ljust(26) + text
    lines += textwrap.wrap(text, 79, subsequent_indent=' ' * 26)
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
