"""lrm never follows a path that comes from model text.

python -m tests.model_paths_test FOLDER     what it opens, as JSON

A process of its own grades responses full of paths and writes them down, while
a hook that nothing can take away notes all that Python does with files,
processes and sockets. What the verifier's workers may do, which see the text
too, is in `rewards/confinement_test.py`.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
# In every path of a response; there is a file of that name.
BAIT = 'bait_that_nobody_asks_for'
FORMS = (
  r'\boxed{%s}',
  r'\boxed{file://%s}',
  r'\boxed{\input{%s}}',
  r'</think>\include{%s} \boxed{1}',
  r'</think>\boxed{\text{../../../../../..%s}}',
  r'<think>open("%s").read()</think>\boxed{\verbatiminput{%s}}',
  r'</think>![](%s) [x](file://%s) \includegraphics{%s} \boxed{2}',
)


def responses(path: pathlib.Path) -> list[str]:
  """Each form with the path in every place of it."""
  return [form.replace('%s', str(path)) for form in FORMS]


def grade_and_write(folder: pathlib.Path) -> None:
  """`lrm grade`, with paths as golds too; a step's rollouts; an incident."""
  from lrm_jax import gathering, incidents, jsonl, main, records
  from lrm_jax.structs import Problem
  from tests import tiny
  from tests.objectives import reference

  texts = responses(folder / BAIT)
  rows = [
    {'id': text, 'response': text, 'answer': gold}
    for text in texts
    for gold in ('1', texts[0])
  ]
  jsonl.write_rows(folder / 'in.jsonl', rows)
  files = (f'--input={folder / "in.jsonl"}', f'--output={folder / "out.jsonl"}')
  assert main.main(['lrm', 'grade', *files]) == 0

  tokenizer = tiny.tokenizer()
  ids = [tokenizer.encode(text) for text in texts]
  longest = max(map(len, ids))
  padded = [[x + [0] * (longest - len(x))] for x in ids]
  shape = (len(texts), 1)
  fields = {
    'problems': [Problem(text, text, text) for text in texts],
    'rollouts': reference.rollouts(
      correct=np.zeros(shape),
      length=np.array([[len(x)] for x in ids]),
      response_ids=np.array(padded),
    ),
    'reward': np.zeros(shape),
    'keep': np.ones(shape, bool),
    'judged': np.ones(shape, bool),
  }
  rows = np.arange(len(texts))
  sampled = gathering.Sampled(**fields, rounds=rows * 0, chosen=rows)
  batch = gathering.Batch(**fields, stats={}, sampled=sampled)
  advantage = np.zeros((*shape, longest))
  records.write_step(folder, tokenizer, batch, advantage, 1)
  rows = records.step_rows(tokenizer, batch, advantage, 1)
  incidents.write_incident(folder, 1, {'step': 1}, rows)


def test_paths_in_responses_are_text(tmp_path):
  (tmp_path / BAIT).write_text('1')
  done = subprocess.run(
    [sys.executable, '-m', 'tests.model_paths_test', str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  # The hook sees: its own open of the bait, at the end, and the files meant.
  assert found['at_the_end'] == 1
  assert found['seen'] == []
  for name in ('in.jsonl', 'step_000001.jsonl.gz'):
    assert any(name in opened for opened in found['opened']), name
  written = sorted(
    str(x.relative_to(tmp_path)) for x in tmp_path.rglob('*') if x.is_file()
  )
  assert written == [
    BAIT,
    'in.jsonl',
    'incidents/step_000001.json',
    'incidents/step_000001.jsonl.gz',
    'out.jsonl',
    'rollouts/step_000001.jsonl.gz',
    'summary.json',
  ]


def watch(folder: pathlib.Path) -> dict:
  """What Python did meanwhile that has the bait in it, and what it opened."""
  seen, opened = [], []

  def note(event, args):
    text = f'{event} {args}'
    if BAIT in text:
      seen.append(text)
    if event == 'open' and str(folder) in text:
      opened.append(text)

  sys.addaudithook(note)
  grade_and_write(folder)
  before = list(seen)
  (folder / BAIT).read_text()
  return {
    'seen': before,
    'opened': opened,
    'at_the_end': len(seen) - len(before),
  }


if __name__ == '__main__':
  print(json.dumps(watch(pathlib.Path(sys.argv[1]))))
