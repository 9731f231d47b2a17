"""Chat templates that never end or fill the memory: one line, and no harm."""

import json
import os
import pathlib
import resource
import signal
import sys
import threading

import pytest

from lrm_jax import confinement, subprocesses
from lrm_jax.data import template_worker, templates
from tests.checkpoints.hf_models import refusal

GOOD = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
DOUBLING = (
  "{% set t = namespace(x='ab') %}{% for i in range(60) %}"
  '{% set t.x = t.x ~ t.x %}{% endfor %}{{ t.x }}'
)
NESTED = (
  '{% set t = namespace(x=[1]) %}{% for i in range(60) %}'
  '{% set t.x = [t.x, t.x] %}{% endfor %}{{ t.x }}'
)
LOOP = '{% for i in range(99999) %}' * 4 + '{% endfor %}' * 4


def still_works():
  assert templates.render(GOOD, 'q', {'bos_token': '<s>'}) == '<s>q'


@pytest.fixture(autouse=True)
def _own_process():
  """The limits are arguments of the process."""
  templates._stop()
  yield
  templates._stop()


def test_one_process_renders_everything():
  still_works()
  (process,) = templates._processes
  still_works()
  assert templates._processes == [process] and process.poll() is None


@pytest.mark.parametrize(
  ('template', 'words'),
  [
    ("{{ 'a' * 10**10 }}", 'MemoryError; mend the template'),
    ("{{ 'a'.center(10**10) }}", 'MemoryError; mend the template'),
    ("{{ '{:>10000000000}'.format(1) }}", 'MemoryError; mend the template'),
    ("{{ '%10000000000d' % 1 }}", 'MemoryError; mend the template'),
    ("{{ [1]|batch(10**10, 'x')|list }}", 'MemoryError; mend the template'),
    (DOUBLING, 'MemoryError; mend the template'),
    ("{{ 'a' * (2**24 + 1) }}", 'a prompt of 16777217 characters; mend'),
    ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'RecursionError'),
    ('{{ ' + '(' * 100_000, 'RecursionError'),
    ("{{ raise_exception('x' * 1000) }}", 'x' * 280 + '; mend the template'),
  ],
)
def test_templates_that_fill_the_memory(template, words):
  message = refusal(templates.render, template, 'q', {})
  assert message.startswith('chat_template: ') and words in message
  assert len(message) < 500
  still_works()


@pytest.mark.parametrize('template', [LOOP, NESTED, '{{ 9**(9**9) }}'])
def test_templates_that_never_end(monkeypatch, template):
  monkeypatch.setattr(templates, 'SECONDS', 0.3)
  monkeypatch.setattr(templates, 'MEMORY_BYTES', 1 << 27)
  message = refusal(templates.render, template, 'q', {})
  assert 'takes more than 0.3 seconds' in message or 'MemoryError' in message
  still_works()


def test_a_loop_ends_by_its_time(monkeypatch):
  monkeypatch.setattr(templates, 'SECONDS', 0.3)
  message = refusal(templates.render, LOOP, 'q', {})
  assert message == (
    'chat_template: takes more than 0.3 seconds; mend the template or remove '
    'it from the model directory'
  )


def test_a_process_that_died_while_nobody_asked_is_replaced():
  still_works()
  os.kill(templates._processes[0].pid, signal.SIGKILL)
  templates._processes[0].wait()
  still_works()


@pytest.fixture
def scripted(monkeypatch, tmp_path):
  """Processes that do, one after the other, what these scripts say."""
  started = []

  def script(*codes):
    def start():
      code = codes[len(started)]
      process = subprocesses.start((sys.executable, '-S', '-c', code))
      os.set_blocking(process.stdin.fileno(), False)
      started.append(process)
      return process

    monkeypatch.setattr(templates, '_start', start)
    return started

  return script


_DIES = 'input(); import os; os.kill(os.getpid(), 9)'
_GOOD = 'input(); print(\'{"prompt": "good"}\')'


def test_a_template_is_given_a_second_process(scripted):
  started = scripted(_DIES, _GOOD)
  assert templates.render(GOOD, 'q', {}) == 'good'
  assert started[0].returncode == -signal.SIGKILL


def test_dying_twice_is_the_templates_fault(scripted):
  started = scripted(_DIES, _DIES, _GOOD)
  message = refusal(templates.render, GOOD, 'q', {})
  assert 'chat_template: its process ended with status -9; mend' in message
  assert len(started) == 2 and not templates._processes


@pytest.mark.parametrize(
  'reply', ['[1', '', '[]', '{}', '{"prompt": 1}x', '[' * 9999]
)
def test_nonsense_is_no_prompt(scripted, reply):
  scripted(f'input(); print({reply!r}); input()', _GOOD)
  assert templates.render(GOOD, 'q', {}) == 'good'


def test_a_process_that_does_not_run_is_given_up(scripted, monkeypatch):
  """Whether it has read the request, which no pipe has room for, or not."""
  monkeypatch.setattr(templates, 'WALL_SECONDS', 0.5)
  monkeypatch.setattr(templates, 'START_SECONDS', 0.5)
  wait = 'import time; time.sleep(600)'
  started = scripted(wait, f'input(); {wait}')
  message = refusal(templates.render, GOOD, 'q' * 1_000_000, {})
  assert 'chat_template: has no answer after 1.0 seconds; mend' in message
  assert [p.returncode for p in started] == [-signal.SIGKILL] * 2


def test_what_its_process_has_given_up(monkeypatch):
  monkeypatch.setenv('SECRET', 'token')
  still_works()
  pid = templates._processes[0].pid
  if not hasattr(resource, 'prlimit'):
    pytest.skip('the limits of another process are read on Linux only')
  limit = lambda kind: resource.prlimit(pid, kind)
  assert limit(resource.RLIMIT_FSIZE) == (0, 0)
  assert max(limit(resource.RLIMIT_NOFILE)) <= 64
  assert 600 < max(limit(resource.RLIMIT_CPU)) < 700
  assert b'SECRET' not in pathlib.Path(f'/proc/{pid}/environ').read_bytes()
  assert os.getsid(pid) == pid
  if os.uname().machine in confinement._MACHINES:
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    assert 'Seccomp:\t2\n' in status


def test_threads_get_their_own_prompts():
  wrong = []

  def ask(name):
    for number in range(50):
      text = f'{name} {number}' * 100
      if templates.render(GOOD, text, {}) != text:
        wrong.append(text)

  threads = [threading.Thread(target=ask, args=(name,)) for name in 'abcd']
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


def test_a_fork_starts_its_own():
  """It must not read what the parent asked for."""
  still_works()
  (before,) = templates._processes
  child = os.fork()
  if not child:
    try:
      still_works()
      os._exit(0 if templates._processes[0].pid != before.pid else 1)
    finally:
      os._exit(2)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
  still_works()
  assert templates._processes == [before]


def test_texts_that_are_hard_to_send():
  """Line ends of every kind, half a character, what looks like a reply."""
  for text in ('a\nb\r\u2028\x00', '\ud800', '{"prompt": 1}\n', 'é' * 100_000):
    assert templates.render(GOOD, text, {}) == text


def test_what_is_said_of_a_template_fits_a_line():
  reply = template_worker.answer("{{ raise_exception('a\nb' * 999) }}", '', {})
  assert json.dumps(reply).count('\\n') == 0 and len(reply['error']) <= 300
