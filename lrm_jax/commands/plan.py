"""`lrm plan`: what a config needs of a topology, with none of it at hand."""

import ml_collections
from absl import flags

from lrm_jax import configuration, storage, workdir
from lrm_jax.errors import CheckFailed, UserError
from lrm_jax.planning import plan as planning
from lrm_jax.planning import report, sweep
from lrm_jax.planning.steps import Workload


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  define = flags.DEFINE_string
  text = (
    'Config file of lrm train, which is run: only your own; --config.KEY=VALUE '
    'sets a key.'
  )
  define('config', None, text, flag_values)
  text = 'Devices, such as v5e:4x4, v5p:4x4x4, v6e:8x8; local: those here.'
  define('topology', None, text, flag_values)
  flags.DEFINE_list(
    'response_tokens',
    None,
    'Lengths of responses to go by; the longest that there can be if absent.',
    flag_values,
  )
  flags.DEFINE_integer(
    'prompt_tokens',
    None,
    'Length of prompts to go by; a quarter of the longest if absent.',
    flag_values=flag_values,
  )
  text = 'Of a chip for an hour, in any currency.'
  flags.DEFINE_float('price', None, text, 0.0, flag_values=flag_values)
  flags.DEFINE_multi_string(
    'sweep',
    None,
    'Values of a key to try, such as train.rows=64,128; several such flags '
    'try all combinations, `auto` meshes, rows and remat.',
    flag_values,
  )
  text = 'Folder for summary.json.'
  define('workdir', None, text, flag_values)
  for name in ('config', 'topology'):
    flags.mark_flag_as_required(name, flag_values)


def run(flag_values: flags.FlagValues, overrides: list[str]) -> None:
  """Plans, prints, and writes summary.json if there is a workdir.

  Raises:
    CheckFailed: the config does not fit.
    UserError: a flag or the config is wrong.
  """
  config = configuration.load(
    flag_values.config, [o.removeprefix('--') for o in overrides]
  )
  works = workloads(flag_values, config)
  folder = None
  if flag_values.workdir is not None:
    folder = storage.as_path(flag_values.workdir)
    storage.make_folder(folder)
  if flag_values.sweep:
    found = sweep.run(config, flag_values.topology, works, flag_values.sweep)
    print(sweep.text(found))
    fits = any(each['fits'] is not False for each in found['tried'])
  else:
    found = planning.plan(config, flag_values.topology, works)
    print(report.text(found, flag_values.price))
    fits = found['fits'] is not False
  if folder is not None:
    record = {'verb': 'plan', 'config': configuration.to_dict(config)}
    print(workdir.write_summary(folder, record | found))
  if not fits:
    raise CheckFailed(
      f'{flag_values.config} does not fit on {flag_values.topology}; more '
      'devices, fewer rows or slots, or remat help'
    )


def workloads(
  flag_values: flags.FlagValues, config: ml_collections.ConfigDict
) -> list[Workload]:
  """Lengths to go by.

  Raises:
    UserError: one that is no number.
  """
  prompt = flag_values.prompt_tokens
  if prompt is None:
    prompt = -(-config.data.max_prompt_tokens // 4)
  stated = flag_values.response_tokens
  if stated is None:
    return [Workload(prompt, config.train.max_tokens)]
  for number in stated:
    if not number.isdecimal():
      raise UserError(
        f'--response_tokens={",".join(stated)!r}: {number!r} is no number of '
        'tokens; give some, such as 2048,8192'
      )
  return [Workload(prompt, int(number)) for number in stated]
