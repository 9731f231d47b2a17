"""The worker's own guards, in the separate process where they belong."""

import json
import pathlib
import signal
import subprocess
import sys

from lrm_jax.rewards import worker

_PATH = pathlib.Path(worker.__file__)


def _serve(requests, seconds=60, memory=2 * 1024**3, **options):
  done = subprocess.run(
    [sys.executable, '-P', str(_PATH), str(seconds), str(memory)],
    input=''.join(json.dumps(request) + '\n' for request in requests),
    capture_output=True,
    text=True,
    timeout=100,
    **options,
  )
  return done.returncode, [json.loads(x) for x in done.stdout.splitlines()]


def test_protocol():
  code, replies = _serve(
    [
      {'answer': r'\sqrt{8}', 'gold': r'2\sqrt{2}'},
      {'answer': r'\sqrt{8}', 'gold': r'2\sqrt{3}'},
    ]
  )
  assert code == 0
  assert replies == [{'ready': True}, {'correct': True}, {'correct': False}]


def test_the_kernel_keeps_the_time():
  code, replies = _serve([{'answer': '10^{10^{10^{10}}}', 'gold': '1'}], 0.5)
  assert code == -signal.SIGPROF
  assert replies == [{'ready': True}]


def test_the_kernel_keeps_it_where_the_parent_ignores_its_signal():
  # As libtpu does. SIGPROF may be blocked as well.
  def ignore():
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])

  request = {'answer': '10^{10^{10^{10}}}', 'gold': '1'}
  code, replies = _serve([request], 0.5, preexec_fn=ignore)
  assert code == -signal.SIGPROF
  assert replies == [{'ready': True}]


def test_too_little_memory_is_reported():
  code, replies = _serve([], memory=60 * 1024**2)
  assert code != 0
  assert replies == [] or 'error' in replies[0]


def test_sympy_evaluates_no_text_and_jax_is_not_loaded():
  code = r"""
import runpy, sys
worker = runpy.run_path(sys.argv[1])
import math_verify, sympy
assert sympy.sympify('1+1') == 2  # What is to be taken away.
worker['forbid_evaluation']()
for text in ('1+1', 'x', "__import__('os')", '5()', '5;6', '1_0', '\u0665'):
  for read in (sympy.sympify, math_verify.parser.parse_expr):
    try:
      read(text)
    except (SyntaxError, sympy.SympifyError):
      continue
    raise SystemExit(f'{read} evaluates {text}')
assert sympy.Number('52') == sympy.Integer(52)
assert sympy.Number('0.5') == sympy.Float('0.5')
assert sympy.Number('1.5e-3') == sympy.Float('0.0015')
assert sympy.sympify('3/2') == sympy.Rational(3, 2)
assert 'jax' not in sys.modules
"""
  done = subprocess.run(
    [sys.executable, '-c', code, str(_PATH)], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
