"""The benchmark of rollouts: what needs no peer."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from lrm_jax import flops
from lrm_jax.checkpoints import huggingface
from lrm_jax.tokenization import base

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'experiments' / 'benchmarks' / 'rollout'
NAMES = (
  'checkpoint',
  'lrm_jax_step',
  'protocol',
  'rollout',
  'table',
  'workload',
)


@pytest.fixture(scope='module')
def parts():
  """The modules, by name; as scripts, they import each other by bare names."""
  sys.path.insert(0, str(FOLDER))
  yield {name: importlib.import_module(name) for name in NAMES}
  sys.path.remove(str(FOLDER))
  for path in FOLDER.glob('*.py'):
    sys.modules.pop(path.stem, None)


@pytest.fixture(scope='module')
def directory(parts, tmp_path_factory):
  """Both checkpoints, of a smaller model; and what was found for them."""
  folder = tmp_path_factory.mktemp('rollout')
  checkpoint = parts['checkpoint']
  config = checkpoint.architecture(n_layers=1, d_model=32, d_ff=48, head_dim=8)
  return folder, checkpoint.write(folder, config=config)


def make_workload(parts, folder, model, **changes):
  checkpoint = parts['checkpoint']
  fields = {
    'model': str(folder / model),
    'prompts': checkpoint.sample_words(4, (5, 8), seed=0),
    'samples': 4,
    'cap': 256,
    'eos_id': checkpoint.EOS,
    'pad_id': checkpoint.PAD,
  }
  return parts['workload'].Workload(**fields | changes)


def test_the_size_that_is_stated(parts):
  config = parts['checkpoint'].architecture()
  assert flops.per_token(config) == pytest.approx(8.2e6, rel=0.01)


def test_the_checkpoints_differ_in_their_end_alone(parts, directory):
  checkpoint = parts['checkpoint']
  folder, found = directory
  _, ragged = huggingface.load(folder / 'ragged')
  _, uniform = huggingface.load(folder / 'uniform')
  at = checkpoint.CHANNEL, checkpoint.EOS
  assert ragged['head'][at] == np.float32(found.weight)
  assert uniform['head'][at] == checkpoint.NEVER
  head = np.array(ragged.pop('head'))
  head[at] = checkpoint.NEVER
  np.testing.assert_array_equal(head, uniform.pop('head'))
  assert str(ragged) == str(uniform)


def test_a_text_gives_the_ids_of_its_prompt_back(parts, directory):
  tokenizer = base.load(directory[0] / 'ragged')
  ids = parts['checkpoint'].sample_words(1, (30, 30), seed=3)[0]
  assert len(ids) == 30
  assert tokenizer.encode(parts['workload'].to_text(ids)) == ids
  assert tokenizer.decode(ids[:2]) == f'w{ids[0]} w{ids[1]}'


def test_the_embedded_model_is_a_workload(parts):
  fields = parts['checkpoint'].tiny_lrm(3)
  work = parts['workload'].Workload(samples=2, cap=9, **fields)
  tokenizer = base.load(work.model)
  config, _ = huggingface.load(work.model)
  assert len({tuple(ids) for ids in work.prompts}) == 3
  assert 'Start=' in tokenizer.decode(work.prompts[0])
  assert work.eos_id in tokenizer.eos_ids and work.pad_id != work.eos_id
  assert max(map(max, work.prompts)) < config.vocab_size


def test_useful_tokens_end_with_the_end(parts, tmp_path):
  work = make_workload(parts, tmp_path, 'ragged', cap=4)
  assert work.useful([7, 8, 1, 0, 0]) == 3
  assert work.useful([7, 8, 9, 6, 1]) == 4
  assert work.useful([7]) == 1


@pytest.mark.long
def test_our_contender_and_the_rate_of_ends(parts, directory, tmp_path):
  """Mean of a geometric law of rate 1/80 that a cap of 64 cuts: 44.2."""
  folder, found = directory
  assert found.rate == pytest.approx(1 / 80, rel=1e-6)
  assert found.spread < 0.3 * found.rate
  prompts = parts['checkpoint'].sample_words(16, (5, 8), seed=0)
  work = make_workload(
    parts, folder, 'ragged', prompts=prompts, samples=16, cap=64
  )
  work.save(tmp_path / 'work.json')
  contender = parts['protocol'].Contender(
    sys.executable,
    FOLDER / 'lrm_jax_sampling.py',
    tmp_path / 'work.json',
    'slots=256',
    log=tmp_path / 'log',
    root=ROOT,
  )
  answer = contender.ask('go', seed=1)
  contender.ask('dump', path=str(tmp_path / 'dump.npz'), count=3)
  contender.close()
  assert answer['seconds'] > 0
  assert len(answer['lengths']) == 256
  # Four standard errors, with a deviation of 22.
  assert np.mean(answer['lengths']) == pytest.approx(44.2, abs=4 * 1.4)
  dumped = np.load(tmp_path / 'dump.npz')
  assert dumped['prompt_1'].tolist() in prompts
  assert dumped['logp_2'].shape == dumped['response_2'].shape


def test_nothing_ends_in_the_uniform_model(parts, directory):
  _, params = huggingface.load(directory[0] / 'uniform')
  work = make_workload(parts, directory[0], 'uniform')
  rows = np.array(work.padded()[0])
  config = huggingface.read_config(directory[0] / 'uniform')
  logits = parts['checkpoint'].teacher_forced(config, params, rows)
  best = logits.max(-1)
  for name in ('EOS', 'PAD'):
    # Below the smallest probability that float32 noise can pick.
    assert (logits[..., getattr(parts['checkpoint'], name)] < best - 40).all()


def test_a_contender_that_fails_says_why(parts, tmp_path):
  script = tmp_path / 'script.py'
  script.write_text('raise SystemExit("no such thing")')
  with pytest.raises(RuntimeError, match='no such thing'):
    parts['protocol'].Contender(
      sys.executable, script, tmp_path, 'x=1', log=tmp_path / 'log'
    )


def test_our_step(parts, directory, tmp_path):
  work = make_workload(parts, directory[0], 'ragged', cap=24)
  module = parts['lrm_jax_step']
  config = module.make_config(work, tmp_path, slots=16, rows=8)
  answer = module.make(config)()
  assert 0 < answer['sample_seconds'] < answer['seconds']
  assert len(answer['lengths']) == work.rows
  assert max(answer['lengths']) == 24


def make_result(parts, speeds, lengths):
  contenders = {}
  for name, speed in speeds.items():
    answers = [
      {'seconds': sum(lengths[name]) / speed, 'lengths': lengths[name]}
    ] * 3
    numbers = parts['rollout'].summarize(answers)
    contenders[name] = numbers | {'setting': 'rows=8'}
  return {
    'flops_per_token': 8e6,
    'matmul_flops_per_second': 1e11,
    'logp_gap': 1e-6,
    'contenders': contenders,
  }


def test_tables_go_between_the_markers(parts, tmp_path):
  table = parts['table']
  result = make_result(
    parts,
    {'lrm_jax': 5000, 'tunix': 2000},
    {'lrm_jax': [60, 100], 'tunix': [70, 90]},
  )
  results = {'workloads': {'ragged': result}}
  text = table.render(json.loads(json.dumps(results)))
  _, _, header, _, ours, tunix, _, below = text.split('\n')
  assert header.count('|') == ours.count('|') == tunix.count('|')
  assert '5,000 (5,000 to 5,000)' in ours and '40.0 %' in ours
  assert '2.50 x' in tunix and '80.0 ±' in tunix
  assert '100 GFLOP/s' in below and '1.0e-06' in below
  page = tmp_path / 'README.md'
  page.write_text(f'a\n{table.START}\nold\n{table.END}\nb\n')
  table.put(page, text)
  table.put(page, text)
  assert page.read_text() == (f'a\n{table.START}\n\n{text}\n\n{table.END}\nb\n')


def test_another_law_is_found_out(parts):
  failures = parts['rollout'].failures
  speeds = {'lrm_jax': 1, 'tunix': 1}
  random = np.random.default_rng(0)
  rows = random.geometric(1 / 80, (2, 256)).tolist()
  same = make_result(parts, speeds, dict(zip(speeds, rows, strict=True)))
  assert failures('ragged', same) == []
  rows[1] = [2 * n for n in rows[1]]
  other = make_result(parts, speeds, dict(zip(speeds, rows, strict=True)))
  assert 'responses of tunix' in failures('ragged', other)[0]
  same['logp_gap'] = 2e-4
  assert 'differ by 2.0e-04' in failures('ragged', same)[0]
  same['logp_gap'] = float('nan')
  assert failures('ragged', same)


def test_the_readme_has_room_for_the_tables(parts):
  text = (FOLDER / 'README.md').read_text()
  assert text.count(parts['table'].START) == text.count(parts['table'].END) == 1
