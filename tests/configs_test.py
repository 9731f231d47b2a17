"""Every config: it loads, it builds, and it says what its keys mean."""

import ast
import dataclasses
import io
import pathlib
import tokenize

import pytest

from lrm_jax import assets, checks, configuration, optim, sft
from lrm_jax.checkpoints import huggingface
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.rope import Rope
from lrm_jax.objectives import recipe

ROOT = pathlib.Path(__file__).parents[1]
# Modules that configs import.
LIBRARIES = (
  '__init__.py',
  'conventions.py',
  'credits.py',
  'efficient.py',
  'objectives.py',
  'pods.py',
  'r1.py',
  'setting.py',
)
CONFIGS = {
  path.relative_to(ROOT).as_posix(): path
  for path in sorted((ROOT / 'configs').rglob('*.py'))
  if path.name not in LIBRARIES
}
# A recipe of `lrm train` has an objective, one of `lrm sft` has stages.
LOADED = {name: configuration.load(path) for name, path in CONFIGS.items()}
TRAIN = [name for name, config in LOADED.items() if 'objective' in config]
SFT = [name for name, config in LOADED.items() if 'stages' in config]
# Methods at the scale of their papers.
R1 = [name for name in TRAIN if name.endswith('_r1_1p5b.py')]
R1_MODEL = ModelConfig(
  vocab_size=151936,
  d_model=1536,
  n_layers=28,
  n_heads=12,
  n_kv_heads=2,
  head_dim=128,
  d_ff=8960,
  max_positions=131072,
  rope=Rope(theta=1e4),
  tie_embeddings=False,
)


def test_every_config_is_of_one_kind():
  assert sorted(TRAIN + SFT) == sorted(CONFIGS)
  assert 'configs/quickstart.py' in TRAIN
  assert 'configs/tiny_lrm.py' in SFT


@pytest.mark.parametrize('name', CONFIGS)
def test_loads_locked_and_becomes_json(name):
  assert LOADED[name].is_locked
  assert configuration.to_json(LOADED[name])


@pytest.mark.parametrize('name', sorted(set(CONFIGS) - {'configs/default.py'}))
def test_opens_with_the_command_that_runs_it(name):
  docstring = ast.get_docstring(ast.parse(CONFIGS[name].read_text()))
  verb = 'train' if name in TRAIN else 'sft'
  assert f'lrm {verb} --config={name} ' in docstring
  assert '--workdir=' in docstring


@pytest.mark.parametrize('name', TRAIN)
def test_train_config_builds(name):
  config = LOADED[name]
  built = recipe.build(config)
  assert 1 <= built.budget(0) <= config.train.max_tokens
  optim.make_optimizer(config.optimizer, config.train.steps)
  if config.model.path == 'tiny_lrm':
    model = huggingface.read_config(assets.resolve('tiny_lrm'))
    checks.check_sizes(config, model)
    checks.check_recipe(config, built)


@pytest.mark.parametrize('name', SFT)
def test_sft_config_builds(name):
  config = LOADED[name]
  sft.check(config)
  model = sft.new_model(config)
  assert config.tokenizer.vocab_size <= model.vocab_size
  optim.make_optimizer(config.optimizer, 10)
  prompt = config.data.max_prompt_tokens
  for stage in sft.stage_configs(config):
    chain_arithmetic.Style(**stage.style)
    assert prompt + stage.max_tokens <= stage.row_length
    assert stage.row_length <= model.max_positions


@pytest.mark.parametrize('name', sorted(set(TRAIN) - {'configs/default.py'}))
def test_a_variant_only_says_what_is_different(name):
  source = CONFIGS[name].read_text()
  assert 'from configs import ' in source
  body = ast.parse(source).body[1:]  # without the docstring
  assert sum(node.end_lineno - node.lineno + 1 for node in body) < 30
  default = LOADED['configs/default.py']
  changed = configuration.differences(default, LOADED[name])
  assert changed
  # An objective is a composition of its own, however many keys it has. What
  # all R1 configs share is in `r1.py`.
  shared = configuration.differences(default, LOADED[R1[0]])
  is_large = LOADED[name].model.path != 'tiny_lrm'
  counted = set(changed) - set(shared) if is_large else changed
  assert sum(not key.startswith('objective.') for key in counted) < 20


def test_every_method_has_a_config_for_the_tiny_model_and_for_r1():
  folder = ROOT / 'configs'
  tiny = {path.stem for path in (folder / 'tiny').glob('*.py')}
  r1 = {path.name for path in folder.glob('*_r1_1p5b.py')}
  methods = tiny - {'__init__', 'setting'}
  assert methods
  assert {f'{method}_r1_1p5b.py' for method in methods} == r1


@pytest.mark.parametrize('name', R1)
def test_r1_config_has_sizes_that_fit(name):
  config = LOADED[name]
  keys = {key: value for key, value in config.model.items() if key != 'path'}
  checks.check_sizes(config, dataclasses.replace(R1_MODEL, **keys))
  checks.check_recipe(config, recipe.build(config))


@pytest.mark.parametrize('name', R1)
def test_r1_config_says_whose_every_number_is(name):
  source = CONFIGS[name].read_text()
  (function,) = (
    node
    for node in ast.parse(source).body
    if isinstance(node, ast.FunctionDef) and node.name == 'get_config'
  )
  inside = range(function.lineno, function.end_lineno + 1)
  numbers, comments = (
    {
      token.start[0]
      for token in tokenize.generate_tokens(io.StringIO(source).readline)
      if token.type == kind and token.start[0] in inside
    }
    for kind in (tokenize.NUMBER, tokenize.COMMENT)
  )
  assert numbers
  assert not numbers - comments


def _leaves(call):
  """The keywords of nested `dict(...)` calls that are no `dict(...)`."""
  for keyword in call.keywords:
    value = keyword.value
    is_group = isinstance(value, ast.Call) and ast.unparse(value.func) == 'dict'
    if is_group:
      yield from _leaves(value)
    else:
      yield keyword


def test_every_key_has_a_comment_on_its_line():
  source = CONFIGS['configs/default.py'].read_text()
  (function,) = (
    node
    for node in ast.parse(source).body
    if isinstance(node, ast.FunctionDef) and node.name == 'get_config'
  )
  (create,) = (
    node
    for node in ast.walk(function)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('create')
  )
  leaves = list(_leaves(create))
  # All of them, but for the objective, whose parts explain themselves.
  keys = configuration.flatten(LOADED['configs/default.py'])
  assert len(leaves) == sum(not key.startswith('objective.') for key in keys)
  commented = {
    token.start[0]
    for token in tokenize.generate_tokens(io.StringIO(source).readline)
    if token.type == tokenize.COMMENT
  }
  bare = [leaf.arg for leaf in leaves if leaf.end_lineno not in commented]
  assert not bare
