"""`lrm table`: from finished runs to the tables and their page."""

from absl import flags

from lrm_jax import configuration
from lrm_jax.commands import table
from lrm_jax.papers import estimates, jobs, tables
from lrm_jax.papers.paper import Claim, Condition, Paper, Run
from tests.papers import made_up

PAPER = Paper(
  name='dler',
  runs=(Run('dler', 'configs/quickstart.py', seeds=(0, 1)),),
  claims=(
    Claim(
      'Few tokens.',
      'fewer',
      (Condition('tokens', lambda r: estimates.mean(r.tokens('dler')), 25.0),),
    ),
  ),
)


def _call(*words):
  flag_values = flags.FlagValues()
  table.define_flags(flag_values)
  flag_values(['lrm', *words])
  table.run(flag_values, ['dler'])


def test_finished_runs_become_tables_and_a_page(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(table, 'find', lambda name: tmp_path / name)
  monkeypatch.setattr(table, 'load', lambda folder: PAPER)
  folder, runs = tmp_path / 'dler', tmp_path / 'runs'
  folder.mkdir()
  readme = folder / 'README.md'
  readme.write_text(f'# DLER\n{tables.BEGIN}\n{tables.END}\n')
  for seed in (0, 1):
    config = configuration.load(
      jobs.ROOT / 'configs' / 'quickstart.py', [f'config.seed={seed}']
    )
    workdir = runs / 'dler' / f'dler_seed{seed}'
    made_up.write(workdir, seed=seed, config=config.to_dict())
  _call('--run', f'--runs={runs}')
  first = readme.read_text()
  assert '| Few tokens. | fewer | tokens: +20.0 [' in first
  page = (runs / 'dler' / 'report.html').read_text()
  assert 'dler_seed0' in page and 'dler_seed1' in page
  assert (folder / 'front.png').read_bytes().startswith(b'\x89PNG\r\n')
  # Without --run from results.json alone.
  readme.write_text(f'# DLER\n{tables.BEGIN}\n{tables.END}\n')
  (runs / 'dler' / 'report.html').unlink()
  _call()
  assert readme.read_text() == first
  assert not (runs / 'dler' / 'report.html').exists()
  assert str(readme) in capsys.readouterr().out
