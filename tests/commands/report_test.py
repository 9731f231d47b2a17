"""`lrm report`: pages of all kinds of folders; mistakes are named."""

import json
import re
import shutil

import pytest

from lrm_jax import jsonl, main, storage
from lrm_jax.evaluation import stored
from tests import tiny
from tests.reporting import folders
from tests.reporting.markup_test import ATTACKS, read


def run(capsys, *arguments):
  """(exit code, what was printed, what went to stderr)."""
  code = main.main(['lrm', 'report', *map(str, arguments)])
  printed = capsys.readouterr()
  return code, printed.out, printed.err


def page(path):
  text = path.read_text('utf-8')
  return text, page_of(text)


def page_of(text):
  """What is shown: without scripts, and without what they unpack."""
  shown = re.sub(r'<(script|style).*?</\1>', '', text, flags=re.DOTALL)
  return read(shown).text


def refusal(capsys, *arguments):
  code, out, err = run(capsys, *arguments)
  assert (code, out) == (2, '')
  (line,) = [x for x in err.splitlines() if x.startswith('lrm: error: ')]
  return line.removeprefix('lrm: error: ')


def test_a_run(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'dler', steps=30, rows=True)
  before = (folder / 'summary.json').read_bytes()
  code, out, _ = run(capsys, folder)
  assert code == 0
  assert 'dler' in out and '75.0%' in out
  assert f'{folder}/report.html: 252 of 252 responses' in out
  text, shown = page(folder / 'report.html')
  for name in (
    *('Summary', 'Accuracy and tokens', 'Training accuracy over steps'),
    *(
      'Evaluation accuracy over steps',
      'Training accuracy over sampled tokens',
    ),
    *('dler: before training', 'dler: after training', 'Advantage'),
    *('Entropy', 'Clipping', 'Time per phase', 'Rollouts'),
  ):
    assert name in shown, name
  assert 'Paired comparison' not in shown
  # Of three problems, 0 of 2 and then 1 of 2 right: a change without spread.
  assert '+50.0 points ± 0.0' in shown
  assert 'id="blob-chunk-0"' in text
  summary = json.loads((folder / 'report.json').read_text())
  assert summary['verb'] == 'report' and summary['responses_shown'] == 252
  assert summary['bytes'] == len((folder / 'report.html').read_bytes())
  assert summary['runs'][0]['evaluation']['accuracy'] == 0.75
  # That of the run stays as it was.
  assert (folder / 'summary.json').read_bytes() == before


def test_the_same_folder_gives_the_same_page(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run')
  pages = []
  for name in 'ab':
    run(capsys, folder, f'--output={tmp_path / name}.html')
    pages.append((tmp_path / f'{name}.html').read_bytes())
  assert pages[0] == pages[1]


def test_a_comparison(tmp_path, capsys):
  paths = [
    folders.write_run(tmp_path / 'dler', rows=True),
    folders.write_eval(tmp_path / 'start', right=0),
    folders.write_eval(tmp_path / 'long', settings=folders.settings(320)),
  ]
  target = tmp_path / 'pages' / 'all.html'
  code, out, _ = run(capsys, *paths, f'--output={target}')
  assert code == 0 and str(target) in out
  assert (tmp_path / 'pages' / 'all.json').exists()
  _, shown = page(target)
  assert 'Paired comparison' in shown
  # From 1 of 2 to 0 of 2, on each of three problems.
  assert 'start against dler13−50.0 points (−50.0 to −50.0)' in shown
  # All of the accuracy is lost: AES is -5 and -10, less 0.5 of 16.5 tokens.
  assert 'pAES 1,3,5AES 1,3,10' in shown
  assert '+3.0 % (+3.0 to +3.0)< 0.001−5.03−10.03' in shown
  assert 'long against' not in shown
  assert (
    'Group 1: dler, start.Group 2: long. Not comparable with group 1: '
    'max_tokens 160 and 320.'
  ) in shown


def test_tokens_of_two_vocabularies_give_no_score(tmp_path, capsys):
  other = {'tokenizer': 'another'}
  paths = [
    folders.write_eval(tmp_path / 'a'),
    folders.write_eval(tmp_path / 'b', right=0, identity=other),
  ]
  target = tmp_path / 'all.html'
  assert run(capsys, *paths, f'--output={target}')[0] == 0
  _, shown = page(target)
  assert 'b against a3−50.0 points' in shown
  assert 'other tokenizers–––Accuracy' in shown


def test_rows_of_other_problems_are_not_compared(tmp_path, capsys):
  paths = [folders.write_eval(tmp_path / name) for name in 'ab']
  rows = folders.evaluation_rows()
  changed = [row | {'id': row['id'].replace('e', 'f')} for row in rows]
  jsonl.write_rows(paths[1] / 'rollouts.jsonl.gz', changed)
  target = tmp_path / 'all.html'
  assert run(capsys, *paths, f'--output={target}')[0] == 0
  _, shown = page(target)
  assert 'b against a: not compared: ' in shown
  assert 'their rows are of other problems than their summaries say' in shown


def test_runs_that_are_not_whole(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run', rollouts=False, evaluated=False)
  assert run(capsys, folder)[0] == 0
  text, shown = page(folder / 'report.html')
  assert 'run has not ended: this is how far it was.' in shown
  assert 'No rollouts: none were stored.' in shown
  assert 'blob-' not in text and 'Evaluation accuracy' not in shown
  assert 'Training accuracy over steps' in shown
  # Nothing but a config, as at the very start.
  (folder / 'metrics.jsonl').unlink()
  assert run(capsys, folder)[0] == 0
  assert 'Training' not in page(folder / 'report.html')[1]


def test_some_rollouts_of_many(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run', steps=3)
  code, out, _ = run(capsys, folder, '--rollouts=6')
  assert code == 0 and '6 of 24 responses' in out
  shown = page(folder / 'report.html')[1]
  assert '6 of 24 responses are in this page, evenly over' in shown
  # All are counted.
  assert 'right (2)' in shown
  assert run(capsys, folder, '--rollouts=0')[0] == 0
  text, shown = page(folder / 'report.html')
  assert '0 of 24 responses are in this page' in shown and 'blob-' not in text


def test_what_was_never_stored_with_its_text(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run', steps=4, rows=True)
  path = folder / 'evaluation' / 'after.jsonl.gz'
  keys = [*stored.FIELDS, 'answer', 'question']
  rows = [
    {key: row[key] for key in keys} if row['sample'] else row
    for row in folders.evaluation_rows()
  ]
  jsonl.write_rows(path, rows)
  for step in (1, 3):
    (folder / 'rollouts' / f'step_{step:06d}.jsonl.gz').unlink()
  assert run(capsys, folder)[0] == 0
  shown = page(folder / 'report.html')[1]
  # Of two evaluations of 3 problems with 2 samples, one keeps the first ones.
  assert (
    '9 of 12 responses of evaluations were stored with their text '
    '(eval.responses).'
  ) in shown
  said = 'run: responses of 2 of 4 steps were stored (train.rollouts_every).'
  assert said in shown
  # One line for all that are alike.
  shutil.copytree(folder, tmp_path / 'other')
  both = tmp_path / 'both.html'
  assert run(capsys, folder, tmp_path / 'other', f'--output={both}')[0] == 0
  said = 'run, other: responses of 2 of 4 steps each were stored'
  assert said in page(both)[1]
  # Where all are stored, nothing is said.
  whole = folders.write_run(tmp_path / 'whole', rows=True)
  assert run(capsys, whole)[0] == 0
  assert 'were stored' not in page(whole / 'report.html')[1]


def test_without_a_tokenizer(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run')
  config = json.loads((folder / 'config.json').read_text())
  config['config']['model']['path'] = 'nowhere'
  jsonl.write_json(folder / 'config.json', config)
  assert run(capsys, folder)[0] == 0
  shown = page(folder / 'report.html')[1]
  assert "Tokens of run are not shaded: model 'nowhere': no such dir" in shown


@pytest.mark.parametrize('attack', ATTACKS)
def test_rows_of_a_stranger(attack, tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run', steps=2)
  harmless = page_tags(folder, capsys)
  path = folder / 'rollouts' / 'step_000001.jsonl.gz'
  changes = {name: attack for name in ('id', 'question', 'answer', 'response')}
  jsonl.write_rows(path, [row | changes for row in folders.step_rows(1)])
  config = json.loads((folder / 'config.json').read_text())
  config['config']['data']['eval'] = attack
  config['config']['model']['path'] = attack
  jsonl.write_json(folder / 'config.json', config)
  found = page_tags(folder, capsys)
  # A list of notes has come: tokens are not shaded, and why.
  assert set(found) - {'ul', 'li'} == set(harmless) - {'ul', 'li'}
  assert found.count('script') == harmless.count('script')


def page_tags(folder, capsys):
  assert run(capsys, folder)[0] == 0
  text = (folder / 'report.html').read_text('utf-8')
  return [name for name, _ in read(text).tags]


def test_where_the_page_goes(tmp_path, capsys):
  a = folders.write_eval(tmp_path / 'a')
  b = folders.write_eval(tmp_path / 'b')
  assert 'DIR is missing: lrm report DIR ...' in refusal(capsys)
  found = refusal(capsys, a, b)
  assert found == (
    '--output is missing, and 2 folders were given; say where their page is to '
    'be, such as --output=report.html'
  )
  found = refusal(capsys, a, '--output=page.txt')
  assert found == "--output='page.txt' is no page; give FILE.html"
  (tmp_path / 'x.html').mkdir()
  assert 'must be a file' in refusal(capsys, a, f'--output={tmp_path}/x.html')
  assert not (a / 'report.html').exists()


def test_damaged_files_end_in_a_line(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run')
  path = folder / 'rollouts' / 'step_000002.jsonl.gz'
  path.write_bytes(path.read_bytes()[:-20])
  assert 'step_000002.jsonl.gz: not a whole gzip file' in refusal(
    capsys, folder
  )
  jsonl.write_rows(path, [{'id': 1}])
  assert "step_000002.jsonl.gz:1: field 'id' is" in refusal(capsys, folder)
  assert not (folder / 'report.html').exists()
  assert 'no such folder; give the' in refusal(capsys, tmp_path / 'no')


def test_an_empty_step(tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run')
  jsonl.write_rows(folder / 'rollouts' / 'step_000002.jsonl.gz', [])
  assert run(capsys, folder)[0] == 0


def test_help_shows_where_folders_stand(capsys):
  assert main.main(['lrm', 'report', '--help']) == 0
  out = capsys.readouterr().out
  assert 'lrm report DIR ...: one page of HTML' in out
  assert '--rollouts=INT' in out


def test_runs_and_pages_in_a_bucket(store, tmp_path, capsys):
  folder = folders.write_run(tmp_path / 'run', rows=True)
  there = storage.as_path('gs://bucket/report/run')
  model = tiny.model_directory()
  for path in (*folder.rglob('*'), *model.iterdir()):
    if path.is_file():
      is_own = path.is_relative_to(folder)
      name = path.relative_to(folder) if is_own else f'model/{path.name}'
      (there / name).write_bytes(path.read_bytes())
  code, out, err = run(capsys, there)
  assert code == 0, err
  assert f'{there}/report.html: 36 of 36 responses' in out
  assert (there / 'report.json').exists()
  # Its tokenizer came from there, without the weights beside it.
  found = (there / 'report.html').read_text()
  assert 'not shaded' not in page_of(found)
  local = tmp_path / 'here.html'
  assert run(capsys, there, f'--output={local}')[0] == 0
  assert local.read_text() == found
  copied = storage.copy_files(there / 'model', ['tokenizer.model', 'no'])
  assert [path.name for path in copied.iterdir()] == ['tokenizer.model']
