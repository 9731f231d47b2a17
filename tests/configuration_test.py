"""Config files and overrides: types hold, typos name their neighbours."""

import contextlib
import json
import pathlib
import sys
import types

import pytest
from ml_collections import config_dict

from configs import default as default_config
from lrm_jax import configuration, errors

_DEFAULT = """
from ml_collections import config_dict

def get_config():
  config = config_dict.ConfigDict()
  config.seed = 0
  config.train = config_dict.ConfigDict()
  config.train.steps = 100
  config.train.learning_rate = 1e-3
  config.train.resume = True
  config.train.limit = config_dict.placeholder(int)
  config.name = 'run'
  config.shaping = ('outcome', 'truncation')
  config.clip = (0.2, 0.28)
  config.sizes = ()
  config.note = None
  return config.lock()
"""


def _write(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  path.write_text(text)
  return path


@pytest.fixture
def default(tmp_path):
  _write(tmp_path / 'configs', '__init__.py', '')
  return _write(tmp_path / 'configs', 'default.py', _DEFAULT)


def _message(path, *overrides) -> str:
  with pytest.raises(errors.UserError) as info:
    configuration.load(path, overrides)
  assert '\n' not in str(info.value)
  return str(info.value)


@pytest.mark.parametrize(
  ('override', 'key', 'expected'),
  [
    ('config.seed=7', 'seed', 7),
    ('config.seed=-1', 'seed', -1),
    ('config.train.learning_rate=2', 'train.learning_rate', 2.0),
    ('config.train.learning_rate=3e-4', 'train.learning_rate', 3e-4),
    ('config.train.resume=false', 'train.resume', False),
    ('config.train.resume=True', 'train.resume', True),
    ('config.name=a=b', 'name', 'a=b'),
    ('config.name=1', 'name', '1'),
    ('config.name=none', 'name', 'none'),
    ('config.name=', 'name', ''),
    ('config.shaping=outcome', 'shaping', ('outcome',)),
    ("config.shaping=('a', 'b')", 'shaping', ('a', 'b')),
    ('config.shaping=()', 'shaping', ()),
    ('config.clip=(0, 1)', 'clip', (0.0, 1.0)),
    ('config.clip=0.5,', 'clip', (0.5,)),
    ('config.sizes=1,2.5,x', 'sizes', (1, 2.5, 'x')),
    ('config.note=text', 'note', 'text'),
    ('config.note=3', 'note', 3),
    ('config.note=none', 'note', None),
    ('config.train.limit=3', 'train.limit', 3),
    ('config.train.limit=none', 'train.limit', None),
  ],
)
def test_override_takes_the_type_of_the_leaf(default, override, key, expected):
  value = configuration.load(default, [override])[key]
  assert value == expected
  assert type(value) is type(expected)


@pytest.mark.parametrize(
  ('override', 'expected'),
  [
    ('config.seed=1.5', "'seed' takes an int, got '1.5'"),
    ('config.seed=true', "'seed' takes an int, got 'true'"),
    ('config.seed=none', "'seed' takes an int, got 'none'"),
    ('config.train.limit=x', "'train.limit' takes an int, got 'x'"),
    ('config.train.learning_rate=x', "takes a float, got 'x'"),
    ('config.train.resume=1', "takes true or false, got '1'"),
    ('config.clip=a,b', 'takes a tuple of float'),
  ],
)
def test_wrong_type_names_value_and_type(default, override, expected):
  assert expected in _message(default, override)


def test_unknown_key_names_the_nearest(default):
  message = _message(default, 'config.train.stepz=3')
  assert message == (
    "unknown config key 'train.stepz'; nearest: train.steps; "
    '--print_config shows every key'
  )
  assert 'train.steps' in _message(default, 'config.steps=3')
  assert 'nearest' not in _message(default, 'config.zzzzqq=3')


@pytest.mark.parametrize(
  ('word', 'name'),
  [
    ('train.lrate', 'optimizer.learning_rate'),
    ('lr', 'optimizer.learning_rate'),
    ('optimizer.wd', 'optimizer.weight_decay'),
    ('train.temp', 'train.temperature'),
    ('train.maxtok', 'train.max_tokens'),
    ('train.stepz', 'train.steps'),
  ],
)
def test_short_forms_find_their_names(word, name):
  known = configuration.flatten(default_config.get_config())
  assert name in known
  assert configuration.nearest(word, known).startswith(f'; nearest: {name}')


def test_a_group_is_not_a_key(default):
  message = _message(default, 'config.train=3')
  assert 'is a group' in message
  assert 'train.steps' in message


def test_override_without_value_says_how_to_write_it(default):
  assert '--config.KEY=VALUE' in _message(default, 'config.seed')


def test_later_override_wins_and_the_config_is_locked(default):
  config = configuration.load(default, ['config.seed=1', 'config.seed=2'])
  assert config.seed == 2
  with pytest.raises(AttributeError):
    config.sede = 3


def test_file_imports_its_siblings_even_beside_a_namesake(tmp_path):
  # Both checkouts call the package `configs`; each must see its own default.
  for name, seed in (('a', 1), ('b', 2)):
    folder = tmp_path / name / 'configs'
    _write(folder, '__init__.py', '')
    _write(folder, 'default.py', _DEFAULT.replace('seed = 0', f'seed = {seed}'))
    child = _write(
      folder,
      'child.py',
      'from configs import default\n'
      'def get_config():\n'
      '  config = default.get_config()\n'
      "  config.name = 'child'\n"
      '  return config\n',
    )
    config = configuration.load(child)
    assert (config.seed, config.name) == (seed, 'child')


def test_the_process_keeps_the_package_that_it_has_imported(tmp_path):
  for before in (None, types.ModuleType('configs')):
    with pytest.MonkeyPatch.context() as patch:
      for name in [m for m in sys.modules if m.split('.')[0] == 'configs']:
        patch.delitem(sys.modules, name)
      if before is not None:
        patch.setitem(sys.modules, 'configs', before)
      folder = tmp_path / 'configs'
      _write(folder, '__init__.py', '')
      _write(folder, 'default.py', _DEFAULT)
      for imported in ('default', 'no_such_module'):
        source = f'from configs import {imported}\n' + _DEFAULT
        child = _write(folder, 'child.py', source)
        with contextlib.suppress(errors.UserError):
          configuration.load(child)
        assert sys.modules.get('configs') is before
        assert 'configs.default' not in sys.modules


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('config.train.stepz = 3', "unknown config key 'stepz'; nearest: train.st"),
    ("config['nama'] = 3", "unknown config key 'nama'; nearest: name"),
    ('config.seed = config.train.stepz', "unknown config key 'stepz'; near"),
    ('config.zzzzqq', "unknown config key 'zzzzqq'"),
    ("config.update({'sead': 1})", "unknown config key 'sead'; nearest: seed"),
    ('config.seed.bit', "AttributeError: 'int' object has no attribute 'bit'"),
    ("{}['seed']", "KeyError: 'seed'"),
    ("config.seed = 'x'", "TypeError: Could not override field 'seed'"),
    ('undefined', "NameError: name 'undefined' is not defined"),
    ('import no_such_module_here', 'No module named'),
  ],
)
def test_mistake_in_the_file_is_one_line_with_its_place(
  default, line, expected
):
  path = _write(
    default.parent,
    'broken.py',
    'from configs import default\n'
    'def get_config():\n'
    '  config = default.get_config()\n'
    f'  {line}\n'
    '  return config\n',
  )
  message = _message(path)
  assert f"'{path}' line 4: " in message
  assert expected in message


def test_syntax_error_names_the_line(tmp_path):
  path = _write(tmp_path, 'broken.py', 'x = 1\ndef get_config(:\n')
  assert f"'{path}' line 2: SyntaxError" in _message(path)


def test_user_error_of_the_file_passes_unchanged(tmp_path):
  path = _write(
    tmp_path,
    'strict.py',
    'from lrm_jax import errors\n'
    'def get_config():\n'
    "  raise errors.UserError('choose a model')\n",
  )
  assert _message(path) == 'choose a model'


def test_files_that_are_no_config(tmp_path):
  assert 'does not exist' in _message(tmp_path / 'nothing.py')
  assert 'is a folder; give the path of a Python file' in _message(tmp_path)
  empty = _write(tmp_path, 'empty.py', '')
  assert 'defines no get_config()' in _message(empty)
  other = _write(tmp_path, 'other.py', 'def get_config():\n  return {}\n')
  assert 'returned dict' in _message(other)


def test_flatten_keeps_leaves_and_order():
  config = config_dict.ConfigDict({'a': {'b': 1, 'c': (1, 2)}, 'd': None})
  assert configuration.flatten(config) == {'a.b': 1, 'a.c': (1, 2), 'd': None}
  assert configuration.flatten({'a': {'b': {'c': 1}}}) == {'a.b.c': 1}


def test_json_is_sorted_valid_and_equal_to_its_config():
  config = config_dict.ConfigDict(
    {'b': (1, 2), 'a': {'x': float('inf'), 'y': None, 'z': True}}
  )
  text = configuration.to_json(config)
  # Strict JSON has no Infinity.
  record = json.loads(text, parse_constant=pytest.fail)
  assert list(record) == ['a', 'b']
  assert record['a']['x'] == 'inf'
  assert configuration.differences(config, record) == []


def test_differences_name_changed_and_missing_keys():
  a = config_dict.ConfigDict({'x': 1, 'y': {'z': (1, 2), 'w': 3}})
  b = {'x': 1, 'y': {'z': [1, 3]}, 'new': None}
  assert configuration.differences(a, b) == ['new', 'y.w', 'y.z']
  assert configuration.differences(a, a) == []


def test_value_that_json_cannot_hold_is_refused():
  config = config_dict.ConfigDict({'f': len})
  with pytest.raises(errors.UserError, match='builtin_function'):
    configuration.to_json(config)
