r"""Answers that the code of a task scores: those of reasoning-gym.

The task says in its question what an answer looks like, so the answer is taken
as it stands: the last `<answer>...</answer>` after thinking, or else the last
`\boxed{}` that closes (without a `\text{}` around it), or else all that stands
there. It is correct if the task's own `score_answer` gives it 1; less, as for
an answer in another form, is wrong.

That code is somebody else's and reads what a model wrote, so it runs in
processes of its own, which have given up what they do not need and end at a
limit; see `pool.py` and `gym_worker.py`.
"""

import re
from collections.abc import Callable, Sequence

from lrm_jax.data import prompts
from lrm_jax.rewards import math_answer, pool
from lrm_jax.rewards.math_answer import Verdict
from lrm_jax.structs import Task

# The longest answers are moves of a tower of Hanoi. As JSON, with 12 bytes for
# a character at most, it fits into a pipe that nobody reads yet.
MAX_CHARS = 5000

_ANSWER = re.compile(r'<answer>((?:(?!<answer>).)*?)</answer>', re.DOTALL)
_TEXT = re.compile(r'\\text\{([^{}]*)\}')


def extract(response: str, *, require_closed_think: bool = True) -> str | None:
  """The answer of a response, as it stands; None where it has none.

  Args:
    response: what the model wrote after the prompt.
    require_closed_think: as for `math_answer.extract_answer`.
  """
  _, text, closed = prompts.split_response(response)
  if not closed:
    if require_closed_think or prompts.THINK_OPEN in response:
      return None
    text = response
  tagged = _ANSWER.findall(text)
  boxes = math_answer.box_spans(text)
  if tagged:
    text = tagged[-1]
  elif boxes:
    text = text[slice(*boxes[-1])].strip()
    plain = _TEXT.fullmatch(text)
    text = plain[1] if plain else text
  # Grids may begin or end with spaces that count; not with empty lines.
  text = text.strip('\n').rstrip() if '\n' in text.strip() else text.strip()
  return text if text else None


class TaskGrader(pool.Grader):
  """Grades (response, `Task`) pairs; see `pool.Grader`."""

  library = 'reasoning-gym'
  cure = "pip install 'lrm_jax[gym]'"
  worker = 'gym_worker.py'

  def grade(
    self,
    pairs: Sequence[tuple[str, Task]],
    check: Callable[[], None] = lambda: None,
  ) -> list[Verdict]:
    """One verdict per pair, in order; never raises on a text."""
    verdicts, jobs = {}, {}
    for index, (response, task) in enumerate(pairs):
      answer = extract(
        response, require_closed_think=self._require_closed_think
      )
      if answer is None:
        verdicts[index] = Verdict(False, None, 'no_answer')
      elif len(answer) > MAX_CHARS:
        verdicts[index] = Verdict(False, answer, 'too_long')
      else:
        jobs[index] = (answer, task.text)
    with self._lock:
      results = self._compare(list(dict.fromkeys(jobs.values())), check)
    for index, job in jobs.items():
      correct = results[job]
      status = 'timeout' if correct is None else 'ok'
      verdicts[index] = Verdict(correct is True, job[0], status)
    return [verdicts[index] for index in range(len(pairs))]
