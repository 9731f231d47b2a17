"""`lrm replay`: files and tables; mistakes are named, nothing is written."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from absl import flags

from lrm_jax import jsonl, main
from lrm_jax.checkpoints import huggingface
from lrm_jax.commands import replay
from lrm_jax.errors import UserError
from tests import tiny
from tests.replaying import stored_test

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs' / 'tiny'


def names(*recipes):
  return ','.join(str(CONFIGS / f'{name}.py') for name in recipes)


@pytest.fixture
def rollouts(tmp_path):
  """Two steps of five groups, whose numbers no recipe has made."""
  folder = tmp_path / 'run'
  for step in (1, 2):
    found = stored_test.sampled(step)
    stored_test.write(folder, stored_test.batch_of(found), step)
  return folder


def run(tmp_path, **changes):
  """The summary."""
  values = flags.FlagValues()
  replay.define_flags(values)
  paths = {'rollouts': tmp_path / 'run', 'workdir': tmp_path / 'out'} | changes
  values(['lrm', *(f'--{name}={value}' for name, value in paths.items())])
  replay.run(values)
  return json.loads((tmp_path / 'out' / 'summary.json').read_text())


def refusal(tmp_path, **changes):
  with pytest.raises(UserError) as error:
    run(tmp_path, **changes)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'out').exists()
  return str(error.value)


def test_rewards_and_advantages_need_no_model(rollouts, tmp_path, capsys):
  recipes = names('grpo', 'dler', 'grpo')
  summary = run(tmp_path, config=recipes)
  assert summary['verb'] == 'replay' and summary['steps'] == [1, 2]
  assert (summary['groups'], summary['responses']) == (10, 30)
  assert list(summary['recipes']) == ['grpo', 'dler', 'grpo_2']
  assert summary['configs']['grpo_2'] == str(CONFIGS / 'grpo.py')
  assert summary['cosines'] is None and summary['model'] is None
  np.testing.assert_allclose(summary['correlations'][0][2], 1)
  assert summary['recipes']['grpo'] == summary['recipes']['grpo_2']
  assert summary['recipes']['grpo'] != summary['recipes']['dler']
  assert 'loss' not in summary['recipes']['grpo']
  rows = jsonl.read_rows(tmp_path / 'out' / 'replay.jsonl')
  assert len(rows) == 3 * 30
  for row in rows:
    assert set(row) == {
      *('recipe', 'step', 'round', 'id', 'sample'),
      *('reward', 'advantage', 'kept'),
    }
    assert not row['kept'] or row['advantage'] is not None
  right = summary['recipes']['grpo']['reward']['right_short']
  wrong = summary['recipes']['grpo']['reward']['wrong_short']
  assert (right, wrong) == (1, 0)
  png = (tmp_path / 'out' / 'heatmap.png').read_bytes()
  assert png.startswith(b'\x89PNG')
  shown = capsys.readouterr().out
  assert '30 responses in 10 groups of 2 steps' in shown
  assert 'grad norm' not in shown and 'as recorded' in shown
  # A second time, in the same place.
  assert run(tmp_path, config=recipes)['recipes'] == summary['recipes']


def test_gradients_of_a_model(rollouts, tmp_path, capsys):
  model = tiny.model_directory()
  recipes = names('grpo', 'dler', 'lc_r1')
  summary = run(tmp_path, config=recipes, model=model)
  cosines = np.array(summary['cosines'], float)
  np.testing.assert_allclose(np.diagonal(cosines), 1)
  np.testing.assert_allclose(cosines, cosines.T)
  assert abs(cosines[0, 1]) < 0.999
  size = sum(x.size for x in jax_leaves(tiny.params(tiny.config())))
  assert summary['gradient_bytes'] == 3 * 4 * size
  for found in summary['recipes'].values():
    assert np.isfinite(found['loss'])
    parts = found['grad_norms']
    assert list(parts)[:2] == ['embedding', 'layer_0/attention']
    total = np.sqrt(sum(x**2 for x in parts.values()))
    assert found['grad_norm'] == pytest.approx(total) and total > 0
    pushes = [abs(row['push']) for row in found['pushed_tokens']]
    assert pushes == sorted(pushes, reverse=True) and 0 < len(pushes) <= 10
  # The stored log-probabilities are not of this model.
  assert summary['logp_gap_max'] > summary['logp_gap_mean'] > 0.1
  shown = capsys.readouterr().out
  assert 'grad norm' in shown and 'tokens pushed' in shown
  # Micro-batches change nothing but rounding.
  again = run(tmp_path, config=recipes, model=model, rows=3)
  np.testing.assert_allclose(again['cosines'], summary['cosines'], atol=1e-4)
  # Another reference is another gradient, where there is a divergence.
  other = tmp_path / 'reference'
  architecture = tiny.config()
  huggingface.save(
    other, architecture, tiny.params(architecture, 1), tiny.tokenizer()
  )
  moved = run(tmp_path, config=recipes, model=model, reference=other)
  norms = lambda found: found['recipes']['grpo']['grad_norm']
  assert norms(moved) != pytest.approx(norms(summary), rel=1e-3)


def jax_leaves(tree):
  values = tree.values() if isinstance(tree, dict) else None
  if values is None:
    return [tree]
  return [leaf for value in values for leaf in jax_leaves(value)]


def test_what_remembers_has_missed_what_is_not_there(rollouts, tmp_path):
  (rollouts / 'rollouts' / 'step_000001.jsonl.gz').unlink()
  note = 'steps are missing, and the memory knows nothing of them'
  found = run(tmp_path, config=names('hapo', 'grpo'))['recipes']
  assert note in found['hapo']['notes'] and note not in found['grpo']['notes']


def write_config(tmp_path, change):
  """A file: GRPO with one line more."""
  path = tmp_path / 'changed.py'
  path.write_text(
    'from configs.tiny import grpo\n'
    'def get_config():\n'
    '  config = grpo.get_config()\n'
    f'  config.{change}\n'
    '  return config\n'
  )
  return path


def test_mistakes_are_named_and_nothing_is_written(rollouts, tmp_path):
  grpo, model = names('grpo'), str(tiny.model_directory())
  folder = rollouts / 'rollouts'
  swapped = ','.join(str(folder / f'step_{n:06d}.jsonl.gz') for n in (2, 1))
  message = refusal(tmp_path, rollouts=swapped, config=grpo)
  assert 'step 1 behind step 2; give each step once, in their order' in message
  assert 'names no file; give one or more' in refusal(tmp_path, config='')
  message = refusal(tmp_path, config=grpo, reference=model)
  assert 'without --model; gradients are of a model' in message
  broken = write_config(tmp_path, "objective.advantage.name = 'best'")
  message = refusal(tmp_path, config=f'{grpo},{broken}')
  assert message.startswith(
    f'{broken}: config.objective.advantage: no function'
  )
  config = write_config(tmp_path, "objective.correction.name = 'token_masked'")
  assert 'so there is nothing to correct' in refusal(tmp_path, config=config)
  config = write_config(tmp_path, "train.old_logp = 'both'")
  message = refusal(tmp_path, config=config)
  assert "train.old_logp='both' is not one of sampler, trainer" in message
  warm = write_config(tmp_path, 'train.temperature = 0.6')
  message = refusal(tmp_path, config=f'{grpo},{warm}', model=model)
  assert (
    'train.temperature of the configs is [0.6, 1.0]; give the one' in message
  )
  other = tmp_path / 'reference'
  wide = dataclasses.replace(tiny.config(), d_ff=32)
  huggingface.save(other, wide, tiny.params(wide), tiny.tokenizer())
  message = refusal(tmp_path, config=grpo, model=model, reference=other)
  assert 'is of another architecture than --model' in message
  message = refusal(tmp_path, config=grpo, workdir=model)
  assert 'holds a run or a model (config.json)' in message


def test_help_and_exit_code(tmp_path, capsys):
  assert main.main(['lrm', 'replay', '--help']) == 0
  shown = capsys.readouterr().out
  for name in ('rollouts', 'config', 'workdir', 'model', 'reference', 'rows'):
    assert f'--{name}=' in shown
  words = [f'--rollouts={tmp_path}', f'--workdir={tmp_path / "out"}']
  assert main.main(['lrm', 'replay', *words, f'--config={names("grpo")}']) == 2
  assert 'no step_NNNNNN.jsonl.gz is there' in capsys.readouterr().err
