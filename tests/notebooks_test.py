"""The notebooks of `colab/`: thin, clean, and they run from top to bottom."""

import json
import os
import pathlib

import pytest

nbclient = pytest.importorskip('nbclient', reason='needs nbclient, ipykernel')
nbformat = pytest.importorskip('nbformat', reason='needs nbclient, ipykernel')
pytest.importorskip('ipykernel', reason='needs nbclient, ipykernel')

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'colab').glob('*.ipynb'))
# Seconds of one cell; a whole notebook takes a few minutes.
TIMEOUT = 900


def test_all_are_there():
  assert [path.stem for path in NOTEBOOKS] == [
    'methods_side_by_side',
    'quickstart',
    'real_checkpoint',
    'your_own_reward',
  ]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_clean_and_thin(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert all(not cell.outputs for cell in code)
  assert all(cell.execution_count is None for cell in code)
  assert notebook.cells[0].source.startswith('# ')
  # What is more than a call belongs into the package.
  assert sum(len(cell.source.split('\n')) for cell in code) < 100
  # What a command is given in quotes could end them: shlex.quote it instead.
  commands = [
    line
    for cell in code
    for line in cell.source.split('\n')
    if line.lstrip().startswith('!')
  ]
  assert not [line for line in commands if "'{" in line or '"{' in line]
  # In Colab it installs itself, and all in the same way.
  first = next(cell.source for cell in code)
  assert "find_spec('lrm_jax') is None" in first and 'REPOSITORY' in first


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
  monkeypatch.setenv('LRM_NOTEBOOK_RUNS', str(tmp_path))
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  # The commands of the environment that runs the tests.
  here = pathlib.Path(os.sys.executable).parent
  monkeypatch.setenv('PATH', f'{here}{os.pathsep}{os.environ["PATH"]}')
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    notebook,
    timeout=TIMEOUT,
    kernel_name='python3',
    resources={'metadata': {'path': str(ROOT / 'colab')}},
  ).execute()
  said = json.dumps([cell.get('outputs') for cell in notebook.cells])
  # A command that fails in a cell does not end it.
  assert 'lrm: error' not in said and 'Traceback' not in said
  assert 'command not found' not in said
