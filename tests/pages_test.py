"""Pages: short, and every link of theirs leads somewhere."""

import pathlib
import re
import subprocess

import pytest

from lrm_jax import main

ROOT = pathlib.Path(__file__).parents[1]
_LINK = re.compile(r'\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)')


def pages():
  listed = subprocess.run(
    ['git', '-C', ROOT, 'ls-files', '*.md'], capture_output=True, text=True
  )
  found = listed.stdout.split()
  # Of a tree that is no clone: all that there are.
  return (
    found if found else [str(p.relative_to(ROOT)) for p in ROOT.rglob('*.md')]
  )


@pytest.mark.parametrize('page', pages())
def test_links_lead_somewhere(page):
  text = (ROOT / page).read_text('utf-8')
  # Code may have brackets beside each other.
  text = re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.DOTALL)
  lost = [
    link
    for link in _LINK.findall(text)
    if not ((ROOT / page).parent / link).exists()
  ]
  assert not lost


def test_the_readme_is_short_and_has_every_verb():
  text = (ROOT / 'README.md').read_text('utf-8')
  assert len(text.split('\n')) <= 201
  assert [verb for verb in main.VERBS if f'`lrm {verb} ' not in text] == []


def test_every_experiment_is_on_the_list():
  text = (ROOT / 'experiments' / 'README.md').read_text('utf-8')
  pages = ROOT.glob('experiments/**/README.md')
  folders = [
    path.parent.relative_to(ROOT / 'experiments').as_posix() for path in pages
  ]
  lost = [f for f in folders if f != '.' and f'({f}/README.md)' not in text]
  assert not lost
