"""Tables of papers: what stands in them, and that they are not stale."""

import pathlib

import pytest

from lrm_jax.commands import table
from lrm_jax.errors import UserError
from lrm_jax.evaluation.intervals import Estimate
from lrm_jax.papers import estimates, jobs, results, tables
from lrm_jax.papers.paper import Claim, Condition, Paper, Run
from tests.papers import made_up

PAPERS = sorted(
  path.parent
  for path in (jobs.ROOT / 'experiments').glob('*/table.py')
  if 'def get_paper' in path.read_text('utf-8')
)
PAPER = Paper(
  name='dler',
  runs=(Run('dler', 'configs/quickstart.py', seeds=(0, 1)),),
  claims=(
    Claim(
      'Fewer tokens.',
      '-77 %',
      (
        Condition(
          'right, points',
          lambda r: estimates.mean(100 * r.right('dler')),
          50.0,
          is_above=True,
          is_premise=True,
        ),
        Condition('tokens', lambda r: estimates.mean(r.tokens('dler')), 20.0),
      ),
    ),
  ),
)


def made_up_results(tmp_path):
  records = []
  for seed in (0, 1):
    workdir = tmp_path / f'dler_seed{seed}'
    made_up.write(workdir, seed=seed, right=(1.0, 1.0), tokens=(10, 10))
    records.append(results.record(workdir, 'dler', 'tiny_lrm'))
  results.save(tmp_path / 'results.json', records)
  return results.Results.load(tmp_path / 'results.json')


def test_a_row_and_a_claim(tmp_path):
  text = tables.render(PAPER, made_up_results(tmp_path))
  assert (
    '| dler | 0 1 | 0.0 | 100.0 | +100.0 [+100.0, +100.0] | 100.0 | 10.0 | '
    '-90.0 [-90.0, -90.0] | 0.0 | 0.00 | 1.0 |'
  ) in text
  assert (
    '| Fewer tokens. | -77 % | premise: right, points: '
    '+100.0 [+100.0, +100.0], above 50: yes<br>'
    'tokens: +10.0 [+10.0, +10.0], below 20: yes | **reproduced** |'
  ) in text
  assert (
    'Made by commit c0ffee000000 with jax 1.2 flax 3.4 on an abacus.'
  ) in text


def test_nothing_is_printed_of_nothing():
  nan = float('nan')
  assert tables.interval(Estimate(nan, nan, nan)) == 'none'


def test_between_the_marks():
  readme = f'a\n{tables.BEGIN}\nold\n{tables.END}\nb\n'
  once = tables.insert(readme, 'new')
  assert once == f'a\n{tables.BEGIN}\nnew\n{tables.END}\nb\n'
  assert tables.insert(once, 'new') == once


@pytest.mark.parametrize(
  'readme',
  [
    '',
    tables.BEGIN,
    tables.END + tables.BEGIN,
    2 * f'{tables.BEGIN}{tables.END}',
  ],
)
def test_a_readme_without_the_marks(readme):
  with pytest.raises(UserError, match='expected one'):
    tables.insert(readme, 'new')


def test_a_paper_that_is_not_there():
  with pytest.raises(UserError, match="no table 'bert'; there are"):
    table.find('bert')


@pytest.mark.parametrize('folder', PAPERS, ids=lambda path: path.name)
def test_the_tables_are_not_stale(folder: pathlib.Path):
  found = results.Results.load(folder / 'results.json')
  new = tables.render(table.load(folder), found)
  readme = (folder / 'README.md').read_text('utf-8')
  assert tables.insert(readme, new) == readme, f'lrm table {folder.name}'
  assert (folder / 'results.json').stat().st_size < 1 << 20


@pytest.mark.parametrize('folder', PAPERS, ids=lambda path: path.name)
def test_every_run_has_its_config_and_three_seeds(folder: pathlib.Path):
  paper = table.load(folder)
  assert paper.name == folder.name
  for run in paper.runs:
    assert (jobs.ROOT / run.config).is_file()
    assert len(run.seeds) >= 3
