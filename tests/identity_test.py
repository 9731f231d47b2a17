"""A run goes on with the config and the frozen weights that it had."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from lrm_jax import identity, metrics, sft_resuming
from lrm_jax.checkpoints.state import RunCheckpoints
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState

FREE = ('log', 'steps')


def make(**changes):
  values = {
    'seed': 3,
    'rate': 0.5,
    'steps': 5,
    'log': {'every': 1},
    'model': {'path': 'tiny', 'shape': (2, 3)},
  }
  return config_dict.ConfigDict(values | changes)


def test_a_fingerprint_is_of_the_keys_that_may_not_change():
  # Of this text; keys in order, tuples as lists.
  text = '{"model.path": "tiny", "model.shape": [2, 3], "rate": 0.5, "seed": 3}'
  found = identity.fingerprint(make(), FREE)
  assert json.loads(text)['model.shape'] == [2, 3]
  expected = identity.hashlib.sha256(text.encode()).hexdigest()
  assert found == expected
  assert identity.fingerprint(make(steps=9, log={'n': 2}), FREE) == expected
  assert identity.fingerprint(make(rate=0.25), FREE) != expected
  assert identity.fingerprint(make(), ()) != expected


def test_another_config_is_named():
  host = identity.of_run(make(), FREE, None, {})
  assert host['seed'] == 3
  assert host['weights'] == {'path': 'tiny', 'checksum': None}
  json.dumps(host)
  identity.check_config(make(steps=6), FREE, host, 40)
  with pytest.raises(UserError) as info:
    identity.check_config(make(rate=1.0, steps=6), FREE, host, 40)
  message = str(info.value)
  assert 'checkpoint 40' in message and 'rate (was 0.5, now 1.0)' in message
  assert 'steps' not in message and '--workdir' in message


def test_a_key_that_has_become_free_is_no_other_config():
  host = identity.of_run(make(), ('steps',), None, {})
  identity.check_config(make(log={'every': 9}), FREE, host, 1)


def test_a_free_key_that_is_new_is_no_other_config():
  """The checkpoint was written before there was such a key."""
  old = make()
  del old['log']
  host = identity.of_run(old, FREE, None, {})
  identity.check_config(make(), FREE, host, 1)
  identity.check_weights(make(), 'a', {}, 1)  # Nor was there this one.
  identity.check_config(make(), FREE, {}, 1)


def test_other_weights_behind_the_path_are_refused():
  host = identity.of_run(make(), FREE, 'a' * 64, {})
  identity.check_weights(make(), 'a' * 64, host, 7)
  # Nothing looks at them any more.
  identity.check_weights(make(), None, host, 7)
  with pytest.raises(UserError) as info:
    identity.check_weights(make(), 'b' * 64, host, 7)
  message = str(info.value)
  for word in ("model.path='tiny'", 'checkpoint 7', 'aaaaaaaaaaaa, now bbbb'):
    assert word in message


# --- The supervised loop ---


class Words:
  """A tokenizer, as far as it is looked at."""

  fingerprint = 'c' * 64


def sft_config(**changes):
  return make(
    stages={'a': {'n': 1}, 'b': {'n': 2}}, mesh={'data': 1}, **changes
  )


def sft_start(workdir, config, base, rows=None):
  """(checkpoints, state, host) of a start; `base` is what adapters are on."""
  frozen = {'base': np.float32([1.0, base])}
  state = TrainState(jnp.int32(0), {'x': jnp.zeros(3)}, {})
  checkpoints = RunCheckpoints(workdir, keep=1)
  contents = sft_resuming.contents_of(Words, rows)
  state, host = sft_resuming.restore(
    config, checkpoints, state, frozen, contents
  )
  return checkpoints, state, host


def test_supervised_training_goes_on_with_its_totals_and_rows(tmp_path):
  checkpoints, state, host = sft_start(tmp_path, sft_config(), 2.0)
  assert host['cursors'] == [0, 0] and host['tokens'] == 0
  writer = metrics.MetricsWriter(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, {'loss': 1.0})
    state = TrainState(jnp.int32(step), {'x': state.params['x'] + 1}, {})
    host['cursors'][1] += 10
    host['tokens'] += 7
    if step == 2:
      sft_resuming.save(checkpoints, state, host, writer.position())
  writer.close()
  checkpoints.close()
  checkpoints, state, host = sft_start(tmp_path, sft_config(), 2.0)
  checkpoints.close()
  assert int(state.step) == 2 and state.params['x'].tolist() == [2, 2, 2]
  assert host['cursors'] == [0, 20] and host['tokens'] == 14
  assert 'metrics' not in host
  rows = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == [1, 2]
  # Other devices may go on with it; another base or another rate may not.
  other = sft_config()
  other.mesh.data = 2
  sft_start(tmp_path, other, 2.0)[0].close()
  with pytest.raises(UserError, match='other weights there'):
    sft_start(tmp_path, sft_config(), 2.5)
  with pytest.raises(UserError, match='rate '):
    sft_start(tmp_path, sft_config(rate=1.0), 2.0)


# --- Data and tokenizer ---

CONTENTS = {
  'data.train': 'a' * 64,
  'data.eval': 'b' * 64,
  'tokenizer': 'c' * 64,
}


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('data.train', ["data.train='d.jsonl': checkpoint 7", 'other rows there']),
    ('data.eval', ["data.eval='e.jsonl': checkpoint 7", 'other rows there']),
    ('tokenizer', ['tokenizer: checkpoint 7', 'tokenizer or chat template (']),
  ],
)
def test_other_data_or_prompts_are_refused(name, words):
  config = make(data={'train': 'd.jsonl', 'eval': 'e.jsonl'})
  host = json.loads(
    json.dumps(identity.of_run(config, FREE, None, dict(CONTENTS)))
  )
  identity.check_contents(config, CONTENTS, host, 7)
  with pytest.raises(UserError) as info:
    identity.check_contents(config, CONTENTS | {name: 'd' * 64}, host, 7)
  message = str(info.value)
  for word in (
    *words,
    f'SHA-256 {CONTENTS[name][:12]}, now dddddddddddd); put back what was',
    'another --workdir',
  ):
    assert word in message


def test_a_checkpoint_of_an_earlier_version_knows_no_contents():
  identity.check_contents(make(), CONTENTS, {}, 7)
  host = {'contents': {'data.train': 'a' * 64}}
  identity.check_contents(make(), CONTENTS, host, 7)


def test_other_demonstrations_are_refused(tmp_path):
  rows = [{'question': 'a', 'response': 'b'}]
  config = sft_config(data={'train': 'd.jsonl'})
  checkpoints, state, host = sft_start(tmp_path, config, 2.0, rows)
  state = TrainState(jnp.int32(1), state.params, {})
  sft_resuming.save(checkpoints, state, host, metrics.START)
  checkpoints.close()
  sft_start(tmp_path, config, 2.0, rows)[0].close()
  other = [{'question': 'a', 'response': 'c'}]
  with pytest.raises(UserError, match="data.train='d.jsonl': checkpoint 1 was"):
    sft_start(tmp_path, config, 2.0, other)
