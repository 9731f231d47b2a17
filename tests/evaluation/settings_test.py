"""What an evaluation asked, from flags and from a config."""

import pytest

from configs import default
from lrm_jax.errors import UserError
from lrm_jax.evaluation import settings
from lrm_jax.structs import Problem
from tests.evaluation import stored_test

PROBLEMS = [Problem('a', '1+1', '2', level=1), Problem('b', '1+2', '3')]
FLAGS = {
  'samples': 4,
  'max_tokens': 96,
  'temperature': 0,
  'truncation': {'top_p': 0.95, 'min_p': 0.0, 'most': 8},
  'thinking_budget': 0,
  'thinking_end': '</think>',
  'stop': ['b', 'a', 'b'],
  'instruction': '',
  'target': 0,
}


def test_what_does_nothing_is_left_out():
  found = settings.of_evaluation(PROBLEMS, **FLAGS)
  assert list(found) == list(stored_test.SETTINGS)
  assert found['truncation'] == {'top_p': 0.95, 'most': 8}
  assert found['stop'] == ['a', 'b']
  assert found['thinking_end'] == ''
  assert (found['problems'], found['temperature']) == (2, 0.0)
  budget = FLAGS | {'thinking_budget': 9}
  assert (
    settings.of_evaluation(PROBLEMS, **budget)['thinking_end'] == '</think>'
  )


def test_a_run_and_lrm_eval_say_the_same():
  config = default.get_config()
  config.eval.truncation.top_p = 0.95
  config.eval.truncation.most = 8
  config.eval.samples, config.eval.max_tokens = 4, 96
  config.eval.temperature = 0.0
  config.stopping.stop = ('b', 'a', 'b')
  found = settings.of_run(config, PROBLEMS)
  assert found == settings.of_evaluation(PROBLEMS, **FLAGS)


@pytest.mark.parametrize(
  ('change', 'is_same'),
  [
    ({'level': 9, 'domain': 'algebra'}, True),
    ({'id': 'c'}, False),
    ({'question': '2+1'}, False),
    ({'answer': '3.0'}, False),
  ],
)
def test_the_digest_is_of_what_is_asked_and_right(change, is_same):
  fields = {'id': 'b', 'question': '1+2', 'answer': '3'} | change
  other = [PROBLEMS[0], Problem(**fields)]
  digests = [settings.fingerprint(x) for x in (PROBLEMS, other)]
  assert (digests[0] == digests[1]) == is_same
  assert settings.fingerprint(PROBLEMS[::-1]) != digests[0]
  assert len(digests[0]) == 64


def test_a_rule_that_is_none():
  with pytest.raises(UserError, match='flags.truncation'):
    settings.of_evaluation(PROBLEMS, **FLAGS | {'truncation': {'top_q': 1}})
