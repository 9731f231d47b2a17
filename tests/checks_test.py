"""Configs that are refused before anything is written."""

import pathlib

import pytest

from lrm_jax import configuration, experiment
from lrm_jax.errors import UserError
from lrm_jax.rewards.pool import Grader

TINY = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny'


@pytest.mark.parametrize(
  ('method', 'changes', 'words'),
  [
    # A target that no prompt states, and the other way round.
    ('l1', {'data.instruction': ''}, ('objective.target', '{target}')),
    (
      'grpo',
      {'data.instruction': 'n={target}'},
      ('objective.target', 'data.instruction'),
    ),
    # A level where tokens are meant, and the other way round.
    (
      'l1',
      {'data.instruction': '{level}'},
      ("objective.target.name='uniform_target'", 'must have {target};'),
    ),
    (
      'tldr',
      {'data.instruction': 'n={target}'},
      ("objective.target.name='level_target'", 'must have {level};'),
    ),
    # A budget that leaves the room at a later step only.
    ('siri', {'objective.budget.high': 161}, ('161', 'train.max_tokens')),
    ('siri', {'objective.budget.low': 0}, ('low',)),
    # A monitor for who observes.
    ('laser_d', {'train.monitor_every': 0}, ('train.monitor_every',)),
    ('laser_d', {'train.monitor_problems': 0}, ('train.monitor_problems',)),
    ('grpo', {'train.monitor_every': -1}, ('train.monitor_every=-1',)),
    ('grpo', {'train.token_budget': -1}, ('train.token_budget=-1',)),
    ('grpo', {'train.keep_best': -1}, ('train.keep_best=-1',)),
    ('grpo', {'model.attention': 'flash'}, ("attention='flash'", 'splash')),
    ('grpo', {'train.temperature': 0.0}, ('train.temperature=0.0', '0.001')),
    ('grpo', {'eval.temperature': 1e-9}, ('eval.temperature=1e-09', 'or 0')),
    ('grpo', {'train.rounds_ahead': -1}, ('train.rounds_ahead=-1',)),
    ('grpo', {'sampler.kv_dtype': 'fp4'}, ("kv_dtype='fp4'", 'int8')),
    ('grpo', {'sampler.round_tokens': 12}, ('round_tokens=12', 'power')),
    ('grpo', {'sampler.round_tokens': 64}, ('round_tokens=64', '32')),
    ('grpo', {'sampler.lanes': -1}, ('sampler.lanes=-1',)),
    ('grpo', {'sampler.slots': 0}, ('sampler.slots=0',)),
    ('grpo', {'sampler.tensor': 0}, ('sampler.tensor=0',)),
    ('grpo', {'sampler.tensor': 2}, ('sampler.tensor=2', 'only one')),
    (
      'grpo',
      {'eval.responses': -1},
      ('eval.responses=-1 must not be negative (0: no texts)',),
    ),
    # The law of an evaluation.
    ('grpo', {'eval.truncation.top_p': 0.0}, ('eval.truncation.top_p=0.0',)),
    ('grpo', {'eval.truncation.most': -1}, ('eval.truncation.most=-1',)),
    (
      'grpo',
      {'eval.truncation.top_k': 9, 'eval.truncation.most': 8},
      ('top_k=9', 'most=8'),
    ),
    ('grpo', {'eval.thinking_budget': -1}, ('eval.thinking_budget=-1',)),
    (
      'grpo',
      {'train.thinking_budget': 5, 'stopping.thinking_end': 'stop'},
      ("thinking_end='stop'", 'train.thinking_budget=5', '</think>'),
    ),
    ('grpo', {'stopping.stop': ('',)}, ('stop', 'empty')),
    # For experts, and the model has none.
    ('grpo', {'train.load_balance': 0.01}, ('train.load_balance=0.01',)),
    ('grpo', {'train.load_balance': -0.1}, ('train.load_balance=-0.1',)),
    # A curriculum without pass rates.
    ('frugal', {'data.pass_rates': 'none'}, ('curriculum', 'data.pass_rates')),
    ('frugal', {'data.pass_rates': 'gone.json'}, ('gone.json', 'no such file')),
    # And others that do not go with the data or the rest.
    (
      'levels',
      {'data.train': 'chain_arithmetic:train:3-4'},
      ('first = 2.0', 'begin at 3'),
    ),
    ('levels', {'objective.curriculum.steps': 0}, ('steps = 0',)),
    (
      'dump',
      {'data.train': 'chain_arithmetic:train:3'},
      ('dump:', 'have 1 level'),
    ),
    ('dump', {'objective.curriculum.by': 'domain'}, ('have 1 domain',)),
    ('dump', {'objective.curriculum.by': 'size'}, ("by = 'size'", 'domain')),
    (
      'dump',
      {'objective.selection.name': 'dynamic_sampling'},
      ("selection = 'dynamic_sampling'", 'dump', 'all_groups'),
    ),
    (
      'dump',
      {'data.pass_rates': 'tiny_lrm/pass_rates.json'},
      ('data.pass_rates', "'dump' reads none"),
    ),
    ('pcl', {'objective.curriculum.factor': 0}, ('factor = 0',)),
    (
      'pcl',
      {'train.partial_tokens': 8, 'train.in_flight': 64},
      ('train.partial_tokens=8', "'pcl'", 'set it to 0'),
    ),
    ('gvm', {'objective.curriculum.probes': 17}, ('probes = 17', '16')),
    ('gvm', {'objective.curriculum.samples': 0}, ('samples = 0',)),
    ('gvm', {'objective.curriculum.beta': 0.5}, ('beta = 0.5',)),
    (
      'gvm',
      {'train.max_rounds': 2},
      ('train.max_rounds=2', "'gvm'", 'one round; set it to 1'),
    ),
    (
      'gvm',
      {'train.partial_tokens': 8, 'train.in_flight': 64},
      ('train.partial_tokens=8', "'gvm'", 'set it to 0'),
    ),
    (
      'gvm',
      {'objective.revision.name': 'compress_thinking'},
      ("revision = 'compress_thinking'", 'gvm', 'unrevised'),
    ),
    # Numbers that only show once a part is called.
    (
      'l1',
      {'objective.target.low': 200, 'objective.target.high': 100},
      ('low', '200', '100'),
    ),
    ('reinforce_pp', {'objective.advantage.gamma': 1.5}, ('gamma', '1.5')),
    (
      'drpo',
      {'objective.shaping.decoupled_length.temperature': 0.0},
      ('temperature',),
    ),
    (
      'step_pruner',
      {'objective.measures.paragraphs.separator': '(('},
      ('separator', '(('),
    ),
    # What an evaluation asks for.
    ('l1', {'eval.target': 0}, ('eval.target=0', 'at least 1')),
    ('tldr', {'eval.target': 3}, ('eval.target=3', '0 to 2')),
    # A measure that nobody takes.
    (
      'conciseness',
      {'objective.shaping.conciseness.score': 'beauty'},
      ('beauty', 'compressibility', 'config.objective.measures'),
    ),
    (
      'adaptive_penalty',
      {'objective.shaping.adaptive_penalty.initial': -1.0},
      ('initial = -1.0',),
    ),
    ('dot', {'objective.revision.margin': -1}, ('margin = -1',)),
    ('cosine', {'objective.bonuses.repetition.n': 0}, ('n = 0',)),
    # Longer prompts: '{target}' takes the room of its largest number.
    ('l1', {'data.max_prompt_tokens': 20}, ('data.max_prompt_tokens',)),
  ],
)
def test_one_line_that_names_the_keys(method, changes, words):
  overrides = [f'config.{key}={value}' for key, value in changes.items()]
  config = configuration.load(TINY / f'{method}.py', overrides)
  with Grader() as grader, pytest.raises(UserError) as error:
    experiment.build(config, grader)
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert word in message


def test_a_model_that_cannot_be_exported_is_refused_at_once():
  config = configuration.load(TINY / 'grpo.py', [])
  with config.unlocked():
    config.model.positions = 'nope'
  with Grader() as grader, pytest.raises(UserError) as error:
    experiment.build(config, grader)
  assert "positions='nope'" in str(error.value)
  assert "family='lrm'" in str(error.value)
