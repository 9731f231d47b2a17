"""What a run of `lrm train` may change between two starts, and what not."""

import json
import shutil

import jax
import pytest

from lrm_jax import assets, configuration, experiment, metrics, resuming
from lrm_jax.checkpoints import huggingface
from lrm_jax.errors import UserError
from lrm_jax.rewards.pool import Grader
from lrm_jax.tokenization import base
from tests import train_test


@pytest.fixture(scope='module')
def grader():
  with Grader() as pool:
    yield pool


def load(**changes):
  return configuration.load(train_test.CONFIG, train_test.overrides(**changes))


def test_every_safe_key_is_a_key_and_says_why():
  known = configuration.flatten(load())
  for key, reason in resuming.SAFE.items():
    assert reason
    assert any(k == key or k.startswith(f'{key}.') for k in known), key


@pytest.mark.parametrize('schedule', ['constant', 'cosine'])
def test_the_length_is_free_unless_the_learning_rate_goes_by_it(schedule):
  keys = resuming.mutable_keys(load(optimizer__schedule=schedule))
  assert ('train.steps' in keys) == (schedule == 'constant')
  assert set(resuming.SAFE) <= set(keys)
  assert not {'seed', 'model', 'data', 'objective', 'optimizer'} & set(keys)


def start(workdir, config, grader):
  built = experiment.build(config, grader)
  checkpoints = resuming.open_checkpoints(workdir, config)
  resuming.restore(built, checkpoints)
  return built, checkpoints


def test_a_reference_that_was_replaced_is_refused(grader, tmp_path):
  """No checkpoint holds it: it is read from model.path at every start."""
  source = assets.resolve('tiny_lrm')
  model, params = huggingface.load(source)
  folder = tmp_path / 'model'
  huggingface.save(folder, model, params, tokenizer=base.load(source))
  config = load(model__path=str(folder))
  built, checkpoints = start(tmp_path / 'run', config, grader)
  assert built.ref_params is not None
  resuming.save(built, checkpoints)
  checkpoints.close()
  start(tmp_path / 'run', config, grader)[1].close()
  shutil.rmtree(folder)
  leaves, structure = jax.tree.flatten(params)
  leaves[-1] = jax.numpy.asarray(leaves[-1]).at[0].add(1e-3)
  other = jax.tree.unflatten(structure, leaves)
  huggingface.save(folder, model, other, tokenizer=base.load(source))
  with pytest.raises(UserError) as info:
    start(tmp_path / 'run', config, grader)
  message = str(info.value)
  assert f"model.path='{folder}': checkpoint 0" in message
  assert 'other weights' in message and '\n' not in message


def test_a_checkpoint_of_another_config_is_refused(grader, tmp_path):
  """config.json was lost, or edited."""
  built, checkpoints = start(tmp_path, load(), grader)
  resuming.save(built, checkpoints)
  checkpoints.close()
  with pytest.raises(UserError, match='optimizer.learning_rate .was 0.0'):
    start(tmp_path, load(optimizer__learning_rate=0.5), grader)


def test_other_problems_behind_a_path_are_refused(grader, tmp_path):
  """As many as there were, in a file of the same name."""
  data = {}
  for name, offset in (('train', 0), ('eval', 100)):
    data[name] = tmp_path / f'{name}.jsonl'
    write_problems(data[name], offset)
  config = load(
    data__train=data['train'], data__eval=data['eval'], data__train_problems=0
  )
  built, checkpoints = start(tmp_path / 'run', config, grader)
  assert built.contents['tokenizer'] == built.tokenizer.fingerprint
  resuming.save(built, checkpoints)
  checkpoints.close()
  start(tmp_path / 'run', config, grader)[1].close()
  for name, offset in (('train', 0), ('eval', 100)):
    write_problems(data[name], offset + 1)
    with pytest.raises(UserError) as info:
      start(tmp_path / 'run', config, grader)
    message = str(info.value)
    assert message.startswith(f"data.{name}='{data[name]}': checkpoint 0 was ")
    assert 'other rows' in message and '\n' not in message
    write_problems(data[name], offset)
  # The same problems, spelled otherwise.
  write_problems(data['train'], 0, separators=(', ', ' :  '))
  start(tmp_path / 'run', config, grader)[1].close()


def write_problems(path, offset, **options):
  rows = [
    {'question': f'Start={i} a:+{offset}', 'answer': str(i + offset)}
    for i in range(40)
  ]
  path.write_text('\n'.join(json.dumps(row, **options) for row in rows))


class Saves:
  """Checkpoints of which nothing is wrong."""

  def check(self):
    pass


def test_a_metric_that_no_step_has_is_named_at_the_first_step(grader):
  built = experiment.build(
    load(train__keep_best=2, train__best_metric='acuracy'), grader
  )
  row = {'accuracy': 0.5, 'loss': 1.0}
  with pytest.raises(UserError, match="'acuracy' is no number of a step.*accu"):
    resuming.check(built, Saves(), row)
  # Others than the main process keep none.
  resuming.check(built, Saves(), metrics.NoWriter().last)
  with built.config.unlocked():
    built.config.train.keep_best = 0
  resuming.check(built, Saves(), row)


def test_a_checkpoint_from_before_responses_in_flight_is_refused():
  resuming.check_version({'flights': []}, 3)
  with pytest.raises(UserError) as info:
    resuming.check_version({'position': 0}, 3)
  message = str(info.value)
  assert message.startswith('checkpoint of step 3: written before there were ')
  assert 'go on with that version, or begin again' in message
