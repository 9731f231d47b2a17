"""`lrm table NAME`: a paper's claims beside our numbers.

  experiments/NAME/table.py       `get_paper()`: runs and claims
  experiments/NAME/results.json   what the runs left
  experiments/NAME/README.md      gets the tables, between two marks
  experiments/NAME/front.png      gets drawn: accuracy over tokens

With --run, trains what is not there yet and writes results.json, and a page of
all the runs (RUNS/NAME/report.html, as `lrm report`); without, makes the tables
again from results.json, in a second. Needs a clone of the source, where
`experiments/` is.
"""

import pathlib
import runpy
from collections.abc import Sequence

from absl import flags

from lrm_jax import storage
from lrm_jax.commands import report
from lrm_jax.errors import UserError
from lrm_jax.papers import front, jobs, making, results, tables
from lrm_jax.papers.paper import Paper


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  flags.DEFINE_bool(
    'run',
    False,
    'Train what is not there yet, one run on each processor; repeat the '
    'command to continue.',
    flag_values,
  )
  flags.DEFINE_string(
    'runs', 'runs/papers', 'Folder of the workdirs, for --run.', flag_values
  )


def run(flag_values: flags.FlagValues, names: Sequence[str]) -> None:
  """Makes the tables of the papers named.

  Args:
    flag_values: parsed flags of `define_flags`.
    names: folders of `experiments/`.

  Raises:
    UserError: no such paper, a run that failed, or no results.
  """
  for name in names:
    folder = find(name)
    paper = load(folder)
    if flag_values.run:
      runs = pathlib.Path(flag_values.runs).absolute() / name
      found = making.make(paper, runs)
      results.save(folder / 'results.json', found)
      report.make(
        [str(runs / f'{each["name"]}_seed{each["seed"]}') for each in found],
        storage.as_path(str(runs / 'report.html')),
      )
    readme = folder / 'README.md'
    numbers = results.Results.load(folder / 'results.json')
    front.draw(paper, numbers, folder / 'front.png')
    table = tables.render(paper, numbers)
    text = tables.insert(readme.read_text('utf-8'), table)
    readme.write_text(text, 'utf-8')
    print(f'{table}\n\n{readme}')


def find(name: str) -> pathlib.Path:
  """The folder of a paper.

  Raises:
    UserError: there is none of this name.
  """
  papers = jobs.ROOT / 'experiments'
  known = sorted(
    path.parent.name
    for path in papers.glob('*/table.py')
    if 'def get_paper' in path.read_text('utf-8')
  )
  if name not in known:
    among = ', '.join(known) if known else 'none: experiments/ is in a clone'
    raise UserError(f'no table {name!r}; there are {among}')
  return papers / name


def load(folder: pathlib.Path) -> Paper:
  """What `table.py` of a folder says."""
  return runpy.run_path(str(folder / 'table.py'))['get_paper']()
