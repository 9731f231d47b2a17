"""`lrm report`: one page of HTML about a run, or about several.

  DIR/report.html     the page, or what --output says; it needs no network and
                      no other file
  DIR/report.json     beside the page, by its name: what is in it, stable keys
                      (summary.json is that of the run)

A DIR is the --workdir of `lrm train` (also of one that still runs, or was
stopped), `lrm sft` or `lrm eval`. What a folder lacks, the page lacks.
"""

import collections
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

import lrm_jax
from lrm_jax import jsonl, metrics, storage, workdir
from lrm_jax.commands import output
from lrm_jax.errors import UserError
from lrm_jax.reporting import (
  courses,
  fronts,
  grouping,
  page,
  paired,
  pieces,
  samples,
  sections,
  store,
  tables,
  workdirs,
)
from lrm_jax.reporting.figures import Figures
from lrm_jax.reporting.grouping import Group
from lrm_jax.reporting.markup import Markup
from lrm_jax.reporting.page import Section
from lrm_jax.reporting.samples import Tally
from lrm_jax.reporting.workdirs import Run

# Responses in a page, unless it is told otherwise.
MOST = 50_000
# Runs that a title or a note names.
_MOST_NAMED = 4


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  flags.DEFINE_string(
    'output',
    None,
    'The page, FILE.html, here or in a bucket (default: DIR/report.html; '
    'required for several DIR).',
    flag_values,
  )
  flags.DEFINE_integer(
    'rollouts',
    MOST,
    'Responses in the page at most, evenly over its files (steps, '
    'evaluations) and within each; all are counted in its charts.',
    lower_bound=0,
    flag_values=flag_values,
  )


def run(flag_values: flags.FlagValues, folders: Sequence[str]) -> None:
  """Makes the page of some folders, and prints what is in it.

  Args:
    flag_values: parsed flags of `define_flags`.
    folders: DIR, one or more.

  Raises:
    UserError: a folder that is none of `lrm train` or `lrm eval`, a damaged
      file in one, or an output that cannot be written. Nothing is written
      then.
  """
  make(folders, _target(flag_values.output, folders), flag_values.rollouts)


def make(
  folders: Sequence[str], target: storage.Path, most: int = MOST
) -> None:
  """Writes the page of some folders, and prints what is in it.

  Args:
    folders: as of `run`.
    target: FILE.html.
    most: responses in it.

  Raises:
    UserError: as of `run`, but of its output.
  """
  begin = time.monotonic()
  runs = workdirs.read_all(folders)
  groups = grouping.of_runs(runs)
  found = samples.sources(runs)
  cutters = [pieces.of_run(run) for run in runs]
  held = store.Store([cutter for cutter, _ in cutters])
  problems = samples.Problems()
  places = {source: place for place, source in enumerate(found)}
  tallies, counts = [], collections.Counter()
  with metrics.Progress(len(found), 'report') as progress:
    gathered = samples.gather(
      found,
      most,
      problems,
      lambda source, problem, row: held.add(
        places[source], source, problem, row
      ),
    )
    for number, tally in enumerate(gathered, start=1):
      tallies.append(tally)
      counts['responses'] += len(tally.length)
      progress.update(number, counts)
  text = page.render(
    _title(runs),
    _subtitle(runs, tallies),
    _notes(runs, tallies, held, cutters),
    sections_of(runs, tallies, groups),
    _blobs(runs, found, held, problems, cutters),
  )
  content = text.encode('utf-8')
  storage.make_folder(target.parent)
  with jsonl.whole_file(target) as file:
    file.write(content)
  summary = {
    'verb': 'report',
    'folders': list(folders),
    'output': str(target),
    'runs': _described(runs, groups),
    'responses': int(counts['responses']),
    'responses_shown': held.count,
    'problems': len(problems.rows),
    'bytes': len(content),
    'seconds': time.monotonic() - begin,
  }
  workdir.write_summary(target.with_suffix('.json'), summary)
  print(_printed(runs, summary))


def _target(name: str | None, folders: Sequence[str]) -> storage.Path:
  """Where the page is written.

  Raises:
    UserError: no place for several folders, or one that cannot be.
  """
  if name is None and len(folders) > 1:
    raise UserError(
      f'--output is missing, and {len(folders)} folders were given; say where '
      'their page is to be, such as --output=report.html'
    )
  if name is None:
    return output.output_file(str(storage.as_path(folders[0]) / 'report.html'))
  if not name.endswith('.html'):
    raise UserError(f'--output={name!r} is no page; give FILE.html')
  return output.output_file(name)


def sections_of(
  runs: Sequence[Run], tallies: Sequence[Tally], groups: Sequence[Group]
) -> list[Section]:
  """All parts of a page but its rollouts; some may have nothing in them.

  Args:
    runs: of the page.
    tallies: of all their sources.
    groups: of these runs.
  """
  figures = Figures()
  note = grouping.note(runs, groups)
  which = 'first' if len(groups) < 2 else 'first of its group'
  interval = (
    '± is half of a 95 % interval, clustered by problem; changes are paired '
    'by problem where the responses are stored.'
  )
  return [
    Section('summary', 'Summary', interval, _summary(runs, tallies, groups)),
    Section(
      'comparison',
      'Paired comparison',
      f'The newest evaluation of each run against that of the {which}, on '
      'the problems that both have. AES is headed by its weights: of fewer '
      'tokens, of more accuracy and of less.',
      sections.pairs(paired.compare(runs, groups)),
    ),
    Section(
      'front',
      'Accuracy–token front',
      '',
      note,
      fronts.of_groups(figures, runs, tallies, groups),
    ),
    Section(
      'curves', 'Learning', '', [], courses.learned(figures, runs, groups)
    ),
    Section(
      'lengths',
      'Lengths by verdict',
      'A response is truncated if it reached its cap and is not right.',
      [],
      sections.lengths(figures, runs, tallies),
    ),
    Section(
      'dynamics',
      'Advantage, clipping, entropy',
      '',
      [],
      courses.dynamics(figures, runs, tallies),
    ),
    Section('time', 'Time', '', [], courses.phases(figures, runs)),
  ]


def _summary(
  runs: Sequence[Run], tallies: Sequence[Tally], groups: Sequence[Group]
) -> list[Markup]:
  """Before and after of one run, or the newest evaluations of several."""
  if len(runs) == 1:
    found = sections.before_after(runs[0], 0, tallies)
    if found is not None:
      return [sections.tiles(runs[0]), found]
  if not groups:
    return []
  table = sections.overview(runs, tallies, groups)
  return [table, *grouping.note(runs, groups)]


def _blobs(
  runs: Sequence[Run],
  found: Sequence[samples.Source],
  held: store.Store,
  problems: samples.Problems,
  cutters: Sequence[tuple[Any, str]],
) -> Mapping[str, str]:
  if not held.count:
    return {}
  header = {
    'runs': [run.name for run in runs],
    'sources': [{'run': s.run, 'kind': s.kind, 'step': s.step} for s in found],
    'reasons': [
      f'not shaded: {reason}' if reason else '' for _, reason in cutters
    ],
  }
  return held.blobs(header, problems.rows)


def _notes(
  runs: Sequence[Run],
  tallies: Sequence[Tally],
  held: store.Store,
  cutters: Sequence[tuple[Any, str]],
) -> list[str]:
  """What a reader should know before the numbers."""
  found = [
    f'{run.name} has not ended: this is how far it was.'
    for run in runs
    if not run.is_finished
  ]
  texts = sum(tally.texts for tally in tallies)
  if held.count < texts:
    found.append(
      f'{held.count:,} of {texts:,} responses are in this page, evenly over '
      'steps and evaluations (--rollouts); charts count all of them.'
    )
  if not texts:
    found.append(
      'No rollouts: none were stored. lrm train stores them with '
      'train.rollouts_every, lrm eval always.'
    )
  else:
    found += _unstored(runs, tallies)
  for run, (_, reason) in zip(runs, cutters, strict=True):
    if texts and reason:
      found.append(f'Tokens of {run.name} are not shaded: {reason}')
  if held.unspelled:
    found.append(
      f'{held.unspelled:,} responses are not shaded: their tokens do not '
      'spell their text.'
    )
  return found


def _unstored(runs: Sequence[Run], tallies: Sequence[Tally]) -> list[str]:
  """What was sampled and is in no file with its text.

  Nothing tells how many responses a step without rollouts had.
  """
  found = []
  evaluated = [t for t in tallies if t.source.kind != 'training']
  texts = sum(tally.texts for tally in evaluated)
  responses = sum(len(tally.length) for tally in evaluated)
  if texts < responses:
    found.append(
      f'{texts:,} of {responses:,} responses of evaluations were stored with '
      'their text (eval.responses).'
    )
  alike = collections.defaultdict(list)
  for run in runs:
    stored = {step for step, _ in run.rollouts}
    steps = {row['step'] for row in run.metrics} | stored
    if run.verb == 'train' and len(stored) < len(steps):
      alike[len(stored), len(steps)].append(run.name)
  for (stored, steps), names in alike.items():
    each = ' each' if len(names) > 1 else ''
    found.append(
      f'{_named(names)}: responses of {stored:,} of {steps:,} steps{each} were '
      'stored (train.rollouts_every).'
    )
  return found


def _title(runs: Sequence[Run]) -> str:
  return _named([run.name for run in runs])


def _named(names: Sequence[str]) -> str:
  """The first few, and how many more."""
  if len(names) > _MOST_NAMED:
    return (
      f'{", ".join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more'
    )
  return ', '.join(names)


def _subtitle(runs: Sequence[Run], tallies: Sequence[Tally]) -> str:
  parts = [f'lrm report {lrm_jax.__version__}']
  if len(runs) > 1:
    parts.append(f'{len(runs)} runs')
  steps = sum(len(run.metrics) for run in runs)
  if steps:
    parts.append(f'{steps:,} steps')
  responses = sum(len(tally.length) for tally in tallies)
  if responses:
    parts.append(f'{responses:,} responses')
  return ' · '.join(parts)


def _described(
  runs: Sequence[Run], groups: Sequence[Group]
) -> list[dict[str, Any]]:
  """Runs in report.json; `group` is null where there is only one."""
  return [
    {
      'name': run.name,
      'folder': str(run.folder),
      'verb': run.verb,
      'steps': len(run.metrics),
      'is_finished': run.is_finished,
      'group': grouping.number_of(place, groups),
      'evaluation': None if run.last is None else dict(run.last.numbers),
    }
    for place, run in enumerate(runs)
  ]


def _printed(runs: Sequence[Run], summary: Mapping[str, Any]) -> str:
  rows = []
  # Runs of different groups are not comparable.
  has_groups = any(run['group'] is not None for run in summary['runs'])
  for run, described in zip(runs, summary['runs'], strict=True):
    last = run.last
    numbers = ('-', '-')
    if last is not None:
      numbers = (
        f'{last.numbers["accuracy"]:.1%}',
        f'{last.numbers["response_tokens"]:.1f}',
      )
    group = described['group']
    own = ('-' if group is None else str(group),) if has_groups else ()
    rows.append((run.name, *own, str(len(run.metrics)), *numbers))
  header = ('run', *(('group',) if has_groups else ()), 'steps', 'accuracy')
  header = (*header, 'response tokens')
  shown, all_of = summary['responses_shown'], summary['responses']
  size = summary['bytes'] / 1e6
  return (
    f'{tables.aligned(header, rows)}\n\n'
    f'{summary["output"]}: {shown:,} of {all_of:,} responses, {size:.1f} MB '
    f'({summary["seconds"]:.0f} s)'
  )
