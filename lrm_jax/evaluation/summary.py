"""All numbers of one evaluation, by stable keys."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrm_jax.data import prompts
from lrm_jax.evaluation import efficiency, intervals, scores, stored, votes
from lrm_jax.structs import Problem


def of_evaluation(
  evaluation: stored.Evaluation, parameters: int | None = None
) -> dict[str, Any]:
  """The numbers that need no more than the samples.

  Args:
    evaluation: B problems, G samples each.
    parameters: of the model, for `acu`; None where nobody knows.

  Returns:
    Those of `scores.summarize` (accuracy is avg@G), and
    unverified            responses that the verifier was lost on
    accuracy_se           clustered by problem; response_tokens_se likewise
    accuracy_interval     95 %, over problems; response_tokens_interval likewise
    answer_tokens         mean tokens that do not think, `</think>` included
    pass_at_k, maj_at_k   by k = 1, 2, 4, ..., G
    auc                   over thinking budgets of 0 to max_tokens, and its axis
    acu                   see `efficiency.acu`; None without `parameters`
    target_match          where prompts ask for a number: target, and pm and fm
                          of lengths in tokens and in words; else None
  """
  correct, length = evaluation.correct, evaluation.length
  found = scores.summarize(evaluation)
  found['answer_tokens'] = scores.mean(length - evaluation.thinking_length)
  found['unverified'] = scores.count_unverified(evaluation)
  for name, values in (('accuracy', correct), ('response_tokens', length)):
    estimate = intervals.mean_interval(values)
    found[f'{name}_se'] = intervals.clustered_standard_error(values)
    found[f'{name}_interval'] = [estimate.low, estimate.high]
  found['pass_at_k'] = votes.pass_curve(correct)
  found['maj_at_k'] = votes.maj_curve(evaluation.answer_class)
  found['auc'] = efficiency.auc_curve(
    correct, evaluation.thinking_length, evaluation.settings['max_tokens']
  )
  found['acu'] = None
  if parameters is not None:
    found['acu'] = efficiency.acu(
      found['accuracy'], parameters, found['response_tokens']
    )
  return found | {'target_match': _target_match(evaluation)}


def of_problems(
  evaluation: stored.Evaluation, problems: Sequence[Problem]
) -> dict[str, Any]:
  """The numbers that need the problems too, and the text of every response.

  Args:
    evaluation: of all responses with their texts.
    problems: its B problems, in order.

  Returns:
    by_level, empty where the data set states no levels; and yap: score, the
    mean of `efficiency.yap_score`, and index, `efficiency.yap_index` over the
    domains, in characters of what follows `</think>`. The minimal answer is the
    gold one, bare.
  """
  minimal = np.array([[len(problem.answer)] for problem in problems])
  yap = efficiency.yap_score(evaluation.characters, minimal)
  domains = [problem.domain for problem in problems]
  by_domain = {
    name: yap[[domain == name for domain in domains]]
    for name in dict.fromkeys(domains)
  }
  has_levels = any(problem.level for problem in problems)
  return {
    'by_level': scores.by_level(problems, evaluation) if has_levels else [],
    'yap': {
      'score': float(yap.mean()),
      'index': efficiency.yap_index(by_domain),
    },
  }


def of_data_sets(summaries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
  """The numbers above several data sets.

  Args:
    summaries: name -> its summary, as it is stored.

  Returns:
    sets, these; problems of all; and the unweighted means over data sets of
    accuracy, response_tokens, thinking_tokens and truncated. accuracy_se takes
    the data sets as independent: sqrt(sum of squares) / their number; None
    where one has none. tokens_per_correct is the mean of tokens over that of
    accuracy.
  """
  found = list(summaries.values())
  means = {
    key: float(np.mean([x[key] for x in found]))
    for key in ('accuracy', 'response_tokens', 'thinking_tokens', 'truncated')
  }
  errors = [x['accuracy_se'] for x in found]
  error = None if None in errors else math.hypot(*errors) / len(errors)
  accuracy, tokens = means['accuracy'], means['response_tokens']
  return {
    'problems': sum(x['problems'] for x in found),
    **means,
    'accuracy_se': error,
    'tokens_per_correct': tokens / accuracy if accuracy else None,
    'sets': dict(summaries),
  }


def _target_match(evaluation: stored.Evaluation) -> dict[str, Any] | None:
  settings = evaluation.settings
  number, _ = prompts.PLACES
  target = settings['target']
  if number not in settings['instruction'] or target < 1:
    return None
  is_known = evaluation.words >= 0
  match = efficiency.target_match
  return {
    'target': target,
    'tokens': match(evaluation.length, target),
    'words': match(evaluation.words[is_known], target)
    if is_known.any()
    else None,
  }
