"""Folders as `lrm train` and `lrm eval` write them, made in no time."""

import functools
import json
import random

from lrm_jax import jsonl
from lrm_jax.tokenization import base
from tests import tiny

QUESTION = 'Start=7 a:+5 b:*2'
RIGHT = '<think>7+5=12 12*2=24</think>\\boxed{24}'
WRONG = '<think>7+5=12 Wait, 7+5=12</think>\\boxed{12}'


@functools.cache
def tokenizer():
  """That of the tiny model."""
  return base.load(tiny.model_directory())


def row(text=RIGHT, **changes):
  """A row of a response; `changes` replace its fields."""
  ids = tokenizer().encode(text)
  assert text not in (RIGHT, WRONG) or tokenizer().decode(ids) == text
  found = {
    'id': 'p0',
    'sample': 0,
    'prompt_ids': [1, 2],
    'response': text,
    'response_ids': ids,
    'logp': [-0.25 * (i % 5) for i in range(len(ids))],
    'length': len(ids),
    'thinking_length': len(ids) // 2,
    'truncated': False,
    'correct': True,
    'verified': True,
    'guards': [],
    'extracted': '24',
    'class': 0,
    'question': QUESTION,
    'answer': '24',
  }
  return found | changes


def training_row(step, **changes):
  """A row of rollouts."""
  more = {'step': step, 'reward': 1.0, 'advantage': 0.5, 'kept': True}
  return row(**(more | changes))


def step_rows(step, problems=2, samples=4):
  """Rows of a step: the first sample right, the last one truncated."""
  found = []
  for problem in range(problems):
    for sample in range(samples):
      is_right = sample == 0
      found.append(
        training_row(
          step,
          text=RIGHT if is_right else WRONG,
          id=f'p{problem}',
          question=f'{QUESTION} c:+{problem}',
          sample=sample,
          correct=is_right,
          truncated=sample == samples - 1,
          reward=float(is_right),
          advantage=1.5 if is_right else -0.5,
        )
      )
      if is_right and problem == 1:
        # As a recipe gives credit by token: 0, 1, 2, 0, 1, ...
        length = found[-1]['length']
        found[-1]['token_advantages'] = [float(i % 3) for i in range(length)]
  return found


def metrics(steps):
  """Rows of metrics.jsonl."""
  noise = random.Random(0)
  return [
    {
      'step': step,
      'accuracy': 0.5 + 0.01 * step,
      'response_tokens': 100.0 - step,
      'cap': 160.0,
      'sampled_tokens': 1000.0,
      'entropy': 0.2 + 0.01 * noise.random(),
      'ratio_outside_0.2': 0.01,
      'ratio_mean': 1.0,
      'kl': 0.001 * step,
      'grad_norm': 0.1,
      'seconds_sample': 1.0 if step > 1 else 9.0,
      'seconds_update': 2.0,
    }
    for step in range(1, steps + 1)
  ]


def settings(max_tokens=160):
  """What an evaluation asked for."""
  return {
    'data': 'digest',
    'problems': 3,
    'samples': 2,
    'max_tokens': max_tokens,
    'temperature': 1.0,
  }


def numbers(step, accuracy, tokens):
  """The summary of an evaluation of a run."""
  return {
    'step': step,
    'accuracy': accuracy,
    'response_tokens': tokens,
    'thinking_tokens': tokens - 5,
    'truncated': 0.1,
    'tokens_per_correct': tokens / accuracy,
    'accuracy_se': 0.02,
    'settings': settings(),
    'identity': {'tokenizer': 'digest'},
  }


def evaluation_rows(problems=3, samples=2, right=1):
  """Rows of an evaluation: of each problem the first `right` are right."""
  return [
    row(
      RIGHT if sample < right else WRONG,
      id=f'e{problem}',
      question=f'{QUESTION} d:-{problem}',
      sample=sample,
      correct=sample < right,
    )
    for problem in range(problems)
    for sample in range(samples)
  ]


def write_run(folder, steps=3, *, rollouts=True, evaluated=True, rows=False):
  """A run of `lrm train`; with `rows`, those of its evaluations too."""
  folder.mkdir(parents=True)
  model = str(tiny.model_directory())
  config = {
    'model': {'path': model},
    'data': {'eval': 'chain_arithmetic'},
    'eval': {'samples': 2, 'max_tokens': 160, 'temperature': 1.0},
  }
  jsonl.write_json(folder / 'config.json', {'verb': 'train', 'config': config})
  jsonl.write_rows(folder / 'metrics.jsonl', metrics(steps))
  if rollouts:
    (folder / 'rollouts').mkdir()
    for step in range(1, steps + 1):
      name = f'step_{step:06d}.jsonl.gz'
      jsonl.write_rows(folder / 'rollouts' / name, step_rows(step))
  if evaluated:
    inner = folder / 'evaluation'
    inner.mkdir()
    jsonl.write_json(inner / 'before.json', numbers(0, 0.5, 100.0))
    jsonl.write_json(inner / 'after.json', numbers(steps, 0.75, 40.0))
    if rows:
      for name, right in (('before', 0), ('after', 1)):
        jsonl.write_rows(
          inner / f'{name}.jsonl.gz', evaluation_rows(right=right)
        )
    jsonl.write_json(folder / 'summary.json', {'verb': 'train'})
  return folder


def write_eval(folder, right=1, **changes):
  """A folder of `lrm eval`; `changes` are of its summary."""
  folder.mkdir(parents=True)
  summary = numbers(0, 0.5, 60.0) | {
    'verb': 'eval',
    'model': str(tiny.model_directory()),
    'data': 'chain_arithmetic',
    'samples': 2,
    'max_tokens': 160,
    'temperature': 1.0,
  }
  del summary['step']
  (folder / 'summary.json').write_text(json.dumps(summary | changes))
  jsonl.write_rows(folder / 'rollouts.jsonl.gz', evaluation_rows(right=right))
  return folder
