"""Runs that were not asked the same stand beside each other nowhere."""

import json
import re

import pytest

from lrm_jax import jsonl, main
from lrm_jax.reporting import grouping, paired, workdirs
from tests.reporting import folders
from tests.reporting.charts_test import of_class, parse
from tests.reporting.markup_test import read


def asked(data, **changes):
  return {'settings': folders.settings() | {'data': data} | changes}


def runs_of(*paths):
  return workdirs.read_all([str(path) for path in paths])


def two_models_on_two_benchmarks(folder):
  """Of `lrm eval --data=gsm8k,math` of two models: b is shorter on math."""
  for model in 'ab':
    for data in ('gsm8k', 'math'):
      changes = asked(data)
      if (model, data) == ('b', 'math'):
        changes |= {'response_tokens': 30.0, 'accuracy': 0.25}
      folders.write_eval(
        folder / model / data, right=int(model == 'a'), **changes
      )
    jsonl.write_json(
      folder / model / 'summary.json', {'verb': 'eval', 'sets': {}}
    )
  return [folder / 'a', folder / 'b']


def figures_of(text):
  """Title -> drawing of each figure of a page."""
  found = re.findall(
    r'<figure>.*?<h3[^>]*>(.*?)</h3>.*?</figcaption><svg[^>]*>(.*?)</svg>',
    text,
    re.DOTALL,
  )
  return {title: parse(drawing) for title, drawing in found}


def full_marks(tree):
  """Styles of the models in a front."""
  return {
    re.search(r's\d', mark.get('class'))[0] for mark in of_class(tree, 'full')
  }


def test_groups_are_in_the_order_of_their_first_runs(tmp_path):
  write = folders.write_eval
  runs = runs_of(
    write(tmp_path / 'a', **asked('one')),
    folders.write_run(tmp_path / 'new', evaluated=False),
    write(tmp_path / 'b', **asked('two', temperature=0.6)),
    write(tmp_path / 'c', **asked('one')),
    write(tmp_path / 'd', **asked('two')),
    write(tmp_path / 'e', **asked('two')),
  )
  groups = grouping.of_runs(runs)
  assert [group.number for group in groups] == [1, 2, 3]
  assert [group.places for group in groups] == [(0, 3), (2,), (4, 5)]
  assert [group.unlike for group in groups] == [
    '',
    "data 'one' and 'two', temperature 1.0 and 0.6",
    "data 'one' and 'two'",
  ]
  numbers = [grouping.number_of(place, groups) for place in range(6)]
  assert numbers == [1, None, 2, 1, 3, 3]


def test_one_group_has_no_number_and_no_note(tmp_path):
  paths = [folders.write_eval(tmp_path / name) for name in 'ab']
  runs = runs_of(*paths)
  (group,) = groups = grouping.of_runs(runs)
  assert group == grouping.Group(None, (0, 1), '')
  assert grouping.titled('Front', group) == 'Front'
  assert not grouping.note(runs, groups) and not grouping.of_runs([])


@pytest.mark.parametrize('settings', [None, 3, 'x'])
def test_settings_that_are_not_stored_are_comparable_with_nothing(
  settings, tmp_path
):
  old = [
    folders.write_eval(tmp_path / name, settings=settings) for name in 'ab'
  ]
  runs = runs_of(*old, folders.write_eval(tmp_path / 'c'))
  groups = grouping.of_runs(runs)
  assert [group.places for group in groups] == [(0,), (1,), (2,)]
  said = 'an earlier version wrote a, without its settings'
  assert [group.unlike for group in groups] == ['', said, said]


def test_a_run_that_has_only_begun_is_of_a_group_and_of_no_pair(tmp_path):
  begun = folders.write_run(tmp_path / 'begun')
  (begun / 'evaluation' / 'after.json').unlink()
  runs = runs_of(begun, *(folders.write_eval(tmp_path / x) for x in 'ab'))
  groups = grouping.of_runs(runs)
  assert [group.places for group in groups] == [(0, 1, 2)]
  (pair,) = paired.compare(runs, groups)
  assert (pair.group, pair.first, pair.second) == (None, 'a', 'b')


def test_each_group_has_its_own_reference_and_family(tmp_path):
  runs = runs_of(*two_models_on_two_benchmarks(tmp_path))
  pairs = paired.compare(runs, grouping.of_runs(runs))
  assert [(pair.group, pair.first, pair.second) for pair in pairs] == [
    (1, 'a/gsm8k', 'b/gsm8k'),
    (2, 'a/math', 'b/math'),
  ]
  for pair in pairs:
    assert pair.found.difference.value == -0.5
    # A family of one: nothing is to be adjusted.
    assert pair.found.difference_holm == pair.found.difference.p


def test_two_models_on_two_benchmarks(tmp_path, capsys):
  paths = two_models_on_two_benchmarks(tmp_path)
  target = tmp_path / 'page.html'
  names = [str(path) for path in paths]
  assert main.main(['lrm', 'report', *names, f'--output={target}']) == 0
  printed = [x.split() for x in capsys.readouterr().out.splitlines()]
  assert printed[0][:2] == ['run', 'group']
  assert [row[:2] for row in printed[1:6] if row[0] == 'a/math'] == [
    ['a/math', '2']
  ]
  text = target.read_text()
  shown = read(text).text
  # Below the overview and above the fronts.
  why = (
    'Group 1: a/gsm8k, b/gsm8k.Group 2: a/math, b/math. Not comparable with '
    "group 1: data 'gsm8k' and 'math'."
  )
  assert shown.count(why) == 2
  drawn = figures_of(text)
  fronts = {x: y for x, y in drawn.items() if x.startswith('Accuracy and tok')}
  assert {title: full_marks(tree) for title, tree in fronts.items()} == {
    'Accuracy and tokens, group 1': {'s0', 's2'},
    'Accuracy and tokens, group 2': {'s1', 's3'},
  }
  # The second of math is shorter and worse: a trade-off, and the only one.
  joined = {title: len(of_class(x, 'front')) for title, x in fronts.items()}
  assert list(joined.values()) == [0, 1]
  assert 'p adjusted by Holm within a group' in shown
  assert 'b/gsm8k against a/gsm8k13−50.0 points' in shown
  assert 'b/math against a/math23−50.0 points' in shown
  groups = [
    x['group']
    for x in json.loads(target.with_suffix('.json').read_text())['runs']
  ]
  assert groups == [1, 2, 1, 2]


def test_curves_of_evaluations_are_of_one_group(tmp_path, capsys):
  paths = [folders.write_run(tmp_path / name) for name in 'ab']
  for name in ('before', 'after'):
    path = paths[1] / 'evaluation' / f'{name}.json'
    summary = json.loads(path.read_text()) | asked('digest', max_tokens=320)
    jsonl.write_json(path, summary)
  target = tmp_path / 'page.html'
  names = [str(path) for path in paths]
  assert main.main(['lrm', 'report', *names, f'--output={target}']) == 0
  drawn = figures_of(target.read_text())
  for number in (1, 2):
    tree = drawn[f'Evaluation accuracy over steps, group {number}']
    assert len(of_class(tree, 'line')) == 1
  assert 'Evaluation accuracy over steps' not in drawn
  assert len(of_class(drawn['Training accuracy over steps'], 'line')) == 2
