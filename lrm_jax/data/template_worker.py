"""The process that renders chat templates; started by `templates.py`.

A template is a program that came with a model. It runs in jinja's sandbox,
which keeps it from files and from attributes of Python. That it ends, and fits
into memory, is seen to by the kernel, and so is what a template could do that
finds a way out of the sandbox: see `confinement.py`.

Protocol: one JSON object a line. For each request `{"template": ...,
"content": ..., "tokens": {...}}` one reply, `{"prompt": ...}` or
`{"error": ...}`. It ends when its input closes. Arguments: the seconds of
processor time that a prompt may take, after which the kernel ends the process,
and its address space (bytes). It ends by itself after `_LIFE_SECONDS` of work.
"""

import datetime
import functools
import importlib.util
import json
import math
import pathlib
import signal
import sys
import time

import jinja2
from jinja2 import sandbox

# Of a prompt: a million tokens and more.
MAX_CHARS = 1 << 24
_MAX_ERROR_CHARS = 300
# Of processor time: millions of prompts.
_LIFE_SECONDS = 600


def main() -> int:
  """Serves requests from standard input until it closes."""
  seconds, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
  confinement = _load_confinement()
  replies = confinement.begin(memory_bytes)
  # What is imported late, by the first template or date.
  answer('{{ strftime_now("%c") }}', '', {})
  born = time.process_time()
  # One template may come after the last look at the clock.
  confinement.confine(math.ceil(born + _LIFE_SECONDS + seconds) + 2)
  for line in sys.stdin:
    request = json.loads(line)
    # Its signal has no handler, so that nothing can hold it up.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    reply = answer(**request)
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps(reply), file=replies, flush=True)
    if time.process_time() - born > _LIFE_SECONDS:
      break
  return 0


def _load_confinement():
  """The module, of whose package this script knows nothing."""
  path = pathlib.Path(__file__).parents[1] / 'confinement.py'
  spec = importlib.util.spec_from_file_location('confinement', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def answer(
  template: str, content: str, tokens: dict[str, str]
) -> dict[str, str]:
  """{'prompt': text}, or {'error': why there is none}.

  Args:
    template: jinja source.
    content: of the only message, a user's.
    tokens: such as `{'eos_token': '</s>'}`.
  """
  try:
    prompt = _compile(template).render(
      messages=[{'role': 'user', 'content': content}],
      add_generation_prompt=True,
      **tokens,
    )
  # A template is data from a stranger: whatever it raises is its own fault.
  except Exception as error:
    reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
    return {'error': reason[:_MAX_ERROR_CHARS].rstrip(': ')}
  if len(prompt) > MAX_CHARS:
    return {'error': f'a prompt of {len(prompt)} characters'}
  return {'prompt': prompt}


@functools.lru_cache(maxsize=8)
def _compile(source: str) -> jinja2.Template:
  """Compiles under the settings that templates are written for.

  As in `transformers.utils.chat_template_utils`: blocks leave no blank lines,
  `break` and `continue` exist, and so do the two functions below.
  """
  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=['jinja2.ext.loopcontrols'],
  )
  environment.globals['raise_exception'] = _raise_exception
  environment.globals['strftime_now'] = _strftime_now
  return environment.from_string(source)


def _raise_exception(message: str):
  raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
  return datetime.datetime.now().strftime(pattern)


if __name__ == '__main__':
  sys.exit(main())
