"""What an evaluation asked: two are compared only where this is the same.

  data             SHA-256 of the ids, questions and answers, in their order
  problems, samples                   B and G
  max_tokens, temperature, truncation, thinking_budget, thinking_end, stop
                                      the law of samples and where they end
  instruction, target                 what prompts say beside the question

Who answered is no part of it, nor is the seed, which both should share but need
not.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_jax.sampler import settings as sampler_settings
from lrm_jax.structs import Problem


def of_evaluation(
  problems: Sequence[Problem],
  *,
  samples: int,
  max_tokens: int,
  temperature: float,
  truncation: Mapping[str, float],
  thinking_budget: int,
  thinking_end: str,
  stop: Sequence[str],
  instruction: str,
  target: int,
  section: str = 'flags',
) -> dict[str, Any]:
  """The settings, as JSON has them.

  Args:
    problems: all of them.
    samples: G.
    max_tokens: of a response.
    temperature: of sampling.
    truncation: rules by name; neutral ones are left out.
    thinking_budget: in tokens; 0 for none.
    thinking_end: what ends thinking then; without a budget it does nothing.
    stop: texts; their order does nothing.
    instruction: of prompts.
    target: what prompts ask for; 0 for nothing.
    section: what the settings are called in messages.

  Raises:
    UserError: a rule of truncation that is none.
  """
  rules, most, _ = sampler_settings.law(truncation, section)
  on = {k: v for k, v in rules._asdict().items() if v is not None}
  return {
    'data': fingerprint(problems),
    'problems': len(problems),
    'samples': samples,
    'max_tokens': max_tokens,
    'temperature': float(temperature),
    'truncation': on | ({} if most is None else {'most': most}),
    'thinking_budget': thinking_budget,
    'thinking_end': thinking_end if thinking_budget else '',
    'stop': sorted(set(stop)),
    'instruction': instruction,
    'target': target,
  }


def of_run(config: Any, problems: Sequence[Problem]) -> dict[str, Any]:
  """The settings of the evaluations of a run.

  Args:
    config: of the run.
    problems: that it evaluates on.
  """
  own = config.eval
  return of_evaluation(
    problems,
    samples=own.samples,
    max_tokens=own.max_tokens,
    temperature=own.temperature,
    truncation=own.truncation,
    thinking_budget=own.thinking_budget,
    thinking_end=config.stopping.thinking_end,
    stop=config.stopping.stop,
    instruction=config.data.instruction,
    target=own.target,
    section='eval',
  )


def fingerprint(problems: Sequence[Problem]) -> str:
  """SHA-256 of what is asked and what is right; 64 hexadecimal digits.

  Levels and domains decide on no verdict.
  """
  found = hashlib.sha256()
  for problem in problems:
    row = [problem.id, problem.question, problem.answer]
    found.update(json.dumps(row).encode() + b'\n')
  return found.hexdigest()
