"""`lrm replay`: what recipes make of rollouts that are there already.

  WORKDIR/summary.json    the numbers of the tables and more, stable keys
  WORKDIR/replay.jsonl    one row per recipe and sample: recipe, step, round,
                          id, sample, reward, advantage, kept
  WORKDIR/heatmap.png     cosines between the recipes' gradients; without a
                          model, correlations of their advantages

Rewards and advantages need the rollouts of `lrm train` alone, and are those of
training to the bit. Responses, their caps, verdicts and the number of sampling
rounds are as stored: another recipe would have asked for other ones.
"""

import collections
import pathlib
import time
from collections.abc import Iterator, Sequence

import jax
import ml_collections
from absl import flags

from lrm_jax import (
  assets,
  checks,
  compilation,
  configuration,
  jsonl,
  metrics,
  off_policy,
  storage,
  workdir,
)
from lrm_jax.checkpoints import huggingface
from lrm_jax.commands import output
from lrm_jax.errors import UserError
from lrm_jax.replaying import players, stored
from lrm_jax.replaying.gradients import Model
from lrm_jax.replaying.players import Player
from lrm_jax.replaying.sessions import Session
from lrm_jax.reporting import heatmaps, replays
from lrm_jax.tokenization import base


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  text = flags.DEFINE_string
  text(
    'rollouts',
    None,
    'Folder of a run of lrm train, or its rollouts/, or files of it with '
    'commas between.',
    flag_values,
  )
  flags.DEFINE_list(
    'config',
    None,
    'Config files with commas between; of each the recipe counts. They are '
    'Python, and are run: give only files that you wrote or have read.',
    flag_values,
  )
  text(
    'workdir',
    None,
    'Folder, or gs://BUCKET/FOLDER, for what is written; an earlier replay '
    'there is replaced.',
    flag_values,
  )
  text(
    'model',
    None,
    'Model that gradients are of, as in lrm eval; without it there are rewards '
    'and advantages alone.',
    flag_values,
  )
  text(
    'reference',
    None,
    'Frozen reference policy of recipes that look at one (default: the model).',
    flag_values,
  )
  flags.DEFINE_float(
    'temperature',
    None,
    'That the responses were sampled with (default: that of the configs).',
    lower_bound=0.0,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'rows',
    32,
    'Packed rows that go through the model at a time; fewer need less memory.',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.mark_flags_as_required(['rollouts', 'config', 'workdir'], flag_values)


def run(flag_values: flags.FlagValues) -> None:
  """Replays --rollouts under each --config; prints, and writes --workdir.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: rollouts, a config or a model that cannot be used, or a recipe
      that needs what is not stored. Nothing is made or written then.
  """
  begin = time.monotonic()
  folder = output.output_folder(flag_values.workdir)
  paths = stored.find(flag_values.rollouts)
  recipes = _load_recipes(flag_values.config)
  watch = compilation.CompileWatch()
  model, tokenizer = _load_model(flag_values, recipes)
  session = Session(recipes, model, tokenizer)
  counts = collections.Counter()
  with metrics.Progress(len(paths), 'replay') as progress:
    for number, step in enumerate(_read(paths), start=1):
      if model is not None:
        model.check(step, flag_values.model)
      session.show(step)
      counts['groups'] += step.kept.shape[0]
      counts['responses'] += step.kept.size
      progress.update(number, counts)
  summary = {
    'verb': 'replay',
    'rollouts': flag_values.rollouts,
    'configs': dict(
      zip((r.name for r in recipes), flag_values.config, strict=True)
    ),
    'model': flag_values.model,
    'reference': flag_values.reference,
    **counts,
    **session.summary(),
    'compile_seconds': watch.seconds,
    'device': jax.devices()[0].device_kind,
  }
  storage.make_folder(folder)
  jsonl.write_rows(folder / 'replay.jsonl', session.rows())
  _draw(summary, folder)
  summary['seconds'] = time.monotonic() - begin
  workdir.write_summary(folder, summary)
  print(replays.describe(summary))
  print(
    f'{folder}: summary.json, replay.jsonl, heatmap.png '
    f'({summary["seconds"]:.0f} s)'
  )


def _read(paths: Sequence[storage.Path]) -> Iterator[stored.Step]:
  """The steps, in their order.

  Raises:
    UserError: they do not follow each other.
  """
  last = 0
  for path in paths:
    step = stored.read(path)
    if step.number <= last:
      raise UserError(
        f'{path}: step {step.number} behind step {last}; give each step once, '
        'in their order'
      )
    last = step.number
    yield step


def _load_recipes(paths: Sequence[str]) -> list[Player]:
  """A player of each config, by the name of its file.

  Raises:
    UserError: a config that is none, or whose recipe is none.
  """
  if not paths or '' in paths:
    raise UserError(
      '--config names no file; give one or more, such as '
      'configs/tiny/dler.py,configs/tiny/grpo.py'
    )
  found, names = [], collections.Counter()
  for path in paths:
    config = configuration.load(path)
    name = pathlib.Path(path).stem
    names[name] += 1
    if names[name] > 1:
      name = f'{name}_{names[name]}'
    try:
      player = players.make(name, config)
      checks.check_recipe(config, player.recipe)
      off_policy.check_old_logp(config)
    except UserError as error:
      raise UserError(f'{path}: {error}') from error
    found.append(player)
  return found


def _load_model(
  flag_values: flags.FlagValues, recipes: Sequence[Player]
) -> tuple[Model | None, base.Tokenizer | None]:
  if flag_values.model is None:
    if flag_values.reference is not None:
      raise UserError(
        f'--reference={flag_values.reference!r} without --model; gradients '
        'are of a model, so give both'
      )
    return None, None
  temperature = _temperature(flag_values, [p.config for p in recipes])
  directory = assets.resolve(flag_values.model)
  tokenizer = base.load(directory)
  config, params = huggingface.load(directory, param_dtype='float32')
  config = huggingface.fit_vocabulary(config, tokenizer)
  params = reference = jax.device_put(params)
  if flag_values.reference is not None:
    other, reference = huggingface.load(
      assets.resolve(flag_values.reference), param_dtype='float32'
    )
    other = huggingface.fit_vocabulary(other, tokenizer)
    if other != config:
      raise UserError(
        f'--reference={flag_values.reference!r} is of another architecture '
        f'than --model={flag_values.model!r}; give one of the same'
      )
    reference = jax.device_put(reference)
  model = Model(
    config,
    params,
    reference,
    temperature=temperature,
    rows=flag_values.rows,
  )
  return model, tokenizer


def _temperature(
  flag_values: flags.FlagValues,
  configs: Sequence[ml_collections.ConfigDict],
) -> float:
  if flag_values.temperature is not None:
    found = {flag_values.temperature}
  else:
    found = {config.train.temperature for config in configs}
  if len(found) > 1 or not min(found) > 0:
    raise UserError(
      f'train.temperature of the configs is {sorted(found)}; give the one that '
      'the responses were sampled with as --temperature, above 0'
    )
  return found.pop()


def _draw(summary: dict, folder: storage.Path) -> None:
  values, title = summary['correlations'], 'Correlation of advantages'
  if summary['cosines'] is not None:
    values, title = summary['cosines'], 'Cosine between gradients'
  heatmaps.draw(
    [[float('nan') if x is None else x for x in row] for row in values],
    list(summary['recipes']),
    title,
    folder / 'heatmap.png',
  )
