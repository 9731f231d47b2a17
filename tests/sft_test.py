"""The supervised loop: its loss by hand, its resume, and what it writes."""

import json
import math
import pathlib
import signal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from lrm_jax import jsonl, main, optim, packing, sft_step
from lrm_jax.checkpoints import huggingface
from lrm_jax.errors import UserError
from lrm_jax.structs import TrainState
from lrm_jax.tokenization import base
from tests import tiny as tiny_lrm
from tests.models import tiny

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny_lrm.py'
NEW_MODEL = {
  'model.new.d_model': 16,
  'model.new.n_layers': 1,
  'model.new.scan_unroll': 1,
  'model.new.n_heads': 2,
  'model.new.head_dim': 8,
  'model.new.d_ff': 24,
  'tokenizer.examples': 150,
}
SMALL = {
  'stages.a_facts.steps': 2,
  'stages.a_facts.rows': 2,
  'stages.a_facts.row_length': 96,
  'stages.a_facts.max_tokens': 30,
  'stages.a_facts.levels': '1,2',
  'stages.b_verbose.steps': 3,
  'stages.b_verbose.rows': 2,
  'stages.b_verbose.row_length': 96,
  'stages.b_verbose.max_tokens': 60,
  'stages.b_verbose.levels': '2,3',
  'optimizer.warmup_steps': 2,
  'eval.problems': 0,
}
EVALUATED = {
  'eval.problems': 9,
  'eval.samples': 2,
  'eval.slots': 16,
  'eval.max_tokens': 12,
}

# Prompts and responses of different lengths; no token twice in a row.
PAIRS = [
  ([5, 9, 2], [7, 1, 8]),
  ([4], [3]),
  ([6, 10, 11, 12], [13, 14]),
  ([20, 21], [22, 23, 24, 25, 26]),
]


def _run(workdir, *groups):
  """`lrm sft` with a small new model; returns its exit code."""
  keys = {k: v for group in (SMALL, *groups) for k, v in group.items()}
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  return main.main(
    ['lrm', 'sft', f'--config={CONFIG}', f'--workdir={workdir}', *flags]
  )


def _losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [(row['step'], row['stage'], row['loss']) for row in rows]


def _weights(workdir):
  return (workdir / 'model' / 'model.safetensors').read_bytes()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The folder of a whole run with an evaluation."""
  workdir = tmp_path_factory.mktemp('runs') / 'whole'
  assert _run(workdir, NEW_MODEL, EVALUATED) == 0
  return workdir


# --- Rows ---


def pack_pairs(pairs, rows, row_length, cursor=0):
  """Packs these demonstrations and then one that fits nowhere."""

  def source(index):
    last = ([1] * row_length, [1])
    return pairs[index] if index < len(pairs) else last

  return packing.pack_demonstrations(
    source, cursor, rows=rows, row_length=row_length
  )


def test_packing_fills_rows_and_marks_responses():
  rows, mask, cursor = pack_pairs(PAIRS, rows=2, row_length=12)
  # 6 tokens, 2, 6 and 7: the fullest row with room takes each.
  np.testing.assert_array_equal(
    rows.tokens,
    [
      [5, 9, 2, 7, 1, 8, 4, 3, 0, 0, 0, 0],
      [6, 10, 11, 12, 13, 14, 0, 0, 0, 0, 0, 0],
    ],
  )
  np.testing.assert_array_equal(
    rows.segment_ids,
    [[1, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0], [1] * 6 + [0] * 6],
  )
  np.testing.assert_array_equal(
    rows.positions,
    [
      [0, 1, 2, 3, 4, 5, 0, 1, 0, 0, 0, 0],
      [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0],
    ],
  )
  np.testing.assert_array_equal(
    mask,
    [
      [0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0],
      [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0],
    ],
  )
  # The one that did not fit opens the next rows.
  assert cursor == 3
  rows, mask, cursor = pack_pairs(PAIRS, rows=2, row_length=12, cursor=cursor)
  np.testing.assert_array_equal(
    rows.tokens[0], [20, 21, 22, 23, 24, 25, 26] + [0] * 5
  )
  assert not rows.segment_ids[1].any()
  assert mask.sum() == 5
  assert cursor == 4


def test_a_demonstration_may_fill_a_row_and_no_more():
  _, mask, cursor = pack_pairs(PAIRS[3:], rows=1, row_length=7)
  np.testing.assert_array_equal(mask, [[0, 0, 1, 1, 1, 1, 1]])
  assert cursor == 1
  with pytest.raises(UserError) as info:
    pack_pairs(PAIRS, rows=4, row_length=6, cursor=3)
  assert str(info.value) == (
    'packing: demonstration 3 has 7 tokens, a row holds 6; raise row_length'
  )


# --- The loss ---

# Rows at the positions of their tokens.
AS_THEY_ARE = sft_step.make_places(
  ml_collections.ConfigDict({'position_limit': 0})
)


def _step(config, params, rows, mask, optimizer=None):
  """(state, loss) of one step; the parameters given are not donated."""
  optimizer = optax.sgd(1.0) if optimizer is None else optimizer
  params = jax.tree.map(jnp.array, params)
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  step = sft_step.make_step(config, optimizer, AS_THEY_ARE)
  state, numbers = step(state, rows, mask)
  return state, numbers['loss']


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
  config = tiny.make_config(tie_embeddings=False)
  params = tiny.make_params(config)
  params['head'] = jnp.zeros_like(params['head'])
  rows, mask, _ = pack_pairs(PAIRS, rows=2, row_length=16)
  _, loss = _step(config, params, rows, mask)
  np.testing.assert_allclose(loss, math.log(37), rtol=1e-6)


def test_loss_is_the_mean_over_response_tokens():
  config = tiny.make_config()
  params = tiny.make_params(config)
  rows, mask, cursor = pack_pairs(PAIRS, rows=2, row_length=16)
  assert cursor == len(PAIRS)
  _, loss = _step(config, params, rows, mask)
  costs = []
  for prompt, response in PAIRS:
    sequence = np.array(prompt + response)
    scores = tiny.forced_logits(config, params, sequence, 16)
    scores = np.asarray(scores, np.float64)
    for place, token in enumerate(response, start=len(prompt) - 1):
      logits = scores[place]
      costs.append(np.log(np.exp(logits).sum()) - logits[token])
  assert len(costs) == 11
  np.testing.assert_allclose(loss, np.mean(costs), rtol=1e-5)


def test_packed_equals_one_per_row():
  """The same loss and, with plain gradient descent, the same update."""
  config = tiny.make_config()
  params = tiny.make_params(config)
  packed, loss = _step(config, params, *pack_pairs(PAIRS, 2, 16)[:2])
  rows, mask = packing.empty_rows(4, 16), np.zeros((4, 16), np.float32)
  for row, (prompt, response) in enumerate(PAIRS):
    packing.place(rows, row, 0, 1, prompt + response)
    mask[row, len(prompt) : len(prompt + response)] = 1
  alone, expected = _step(config, params, rows, mask)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert packed.step == alone.step == 1
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), packed.params, params)
  assert min(jax.tree.leaves(moved)) > 1e-4
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
    packed.params,
    alone.params,
  )


def test_a_constant_demonstration_is_learned():
  config = tiny.make_config()
  optimizer = optim.make_optimizer(
    ml_collections.ConfigDict(
      {
        'name': 'adamw',
        'learning_rate': 0.02,
        'schedule': 'constant',
        'warmup_steps': 3,
        'final_fraction': 1.0,
        'b1': 0.9,
        'b2': 0.95,
        'eps': 1e-8,
        'weight_decay': 0.0,
        'clip_norm': 1.0,
        'spike_factor': 0.0,
        'spike_reset': False,
      }
    ),
    25,
  )
  params = jax.tree.map(jnp.array, tiny.make_params(config))
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  step = sft_step.make_step(config, optimizer, AS_THEY_ARE)
  rows, mask, _ = pack_pairs([PAIRS[3]] * 4, rows=2, row_length=16)
  losses = []
  for _ in range(25):
    state, numbers = step(state, rows, mask)
    losses.append(float(numbers['loss']))
  assert losses[0] > 1
  assert losses[-1] < losses[0] / 10
  assert state.step == 25


# --- The run ---


def test_stages_follow_each_other(finished):
  losses = _losses(finished)
  assert [row[:2] for row in losses] == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
  # A fresh model spreads its bets: about log V at the first step.
  np.testing.assert_allclose(losses[0][-1], math.log(192), rtol=0.1)


@pytest.mark.slow
def test_an_interrupted_run_equals_a_straight_one(
  finished, tmp_path, monkeypatch, capsys
):
  """Ctrl-C in step 4, within the second stage, and the same command again."""
  pack = packing.pack_demonstrations
  calls = []

  def pack_and_interrupt(*args, **keywords):
    calls.append(args)
    if len(calls) == 4:
      signal.raise_signal(signal.SIGINT)
    return pack(*args, **keywords)

  monkeypatch.setattr(packing, 'pack_demonstrations', pack_and_interrupt)
  assert _run(tmp_path, NEW_MODEL) == 0
  assert 'stopped; resumable at step 4: ' in capsys.readouterr().err
  assert len(calls) == 4
  assert not (tmp_path / 'model').exists()
  assert not (tmp_path / 'summary.json').exists()
  assert _run(tmp_path, NEW_MODEL) == 0
  assert len(calls) == 5
  assert _losses(tmp_path) == _losses(finished)
  assert _weights(tmp_path) == _weights(finished)
  # Without an evaluation there is nothing to put on a card.
  assert not (tmp_path / 'model' / 'README.md').exists()


def test_what_a_run_writes(finished):
  model, params = huggingface.load(finished / 'model')
  tokenizer = base.load(finished / 'model')
  assert huggingface.fit_vocabulary(model, tokenizer) == model
  assert (model.vocab_size, model.d_model, model.n_layers) == (192, 16, 1)
  assert tokenizer.encode('</think>') == list(base.think_close_ids(tokenizer))
  summary = json.loads((finished / 'summary.json').read_text())
  assert summary['verb'] == 'sft'
  assert summary['parameters'] == sum(x.size for x in jax.tree.leaves(params))
  assert summary['config']['stages']['b_verbose']['steps'] == 3
  assert summary['steps'] == 5
  assert min(summary['seconds'], summary['tokens_per_second']) > 0
  rows = jsonl.read_rows(finished / 'metrics.jsonl')
  assert 0 < summary['goodput'] == rows[-1]['goodput'] < 1
  for row in rows:
    work = row['model_flops'] / row['tokens'] * row['tokens_per_second']
    rate = row['model_flops_per_second_per_device'] * jax.device_count()
    assert rate == pytest.approx(work, rel=1e-9)
  assert 0 <= summary['accuracy'] <= 1
  assert 1 <= summary['response_tokens'] <= 12
  # Nine problems of levels 2 to 8 in turn, two samples each.
  levels = [
    (row['level'], row['n'], row['shortest_tokens'])
    for row in summary['by_level']
  ]
  samples = [4, 4, 2, 2, 2, 2, 2]
  assert [row[:2] for row in levels] == list(
    zip(range(2, 9), samples, strict=True)
  )
  shortest = [row[2] for row in levels]
  assert shortest == sorted(set(shortest))
  card = (finished / 'model' / 'README.md').read_text()
  assert sum(line.startswith('| ') for line in card.splitlines()) == 2 + 7


@pytest.mark.slow
def test_a_finished_run_may_be_run_again(finished, capsys):
  """It evaluates and exports once more; training costs what it cost."""
  files = {path.name for path in (finished / 'model').iterdir()}
  weights, losses = _weights(finished), _losses(finished)
  summary = json.loads((finished / 'summary.json').read_text())
  assert _run(finished, NEW_MODEL, EVALUATED) == 0
  assert {path.name for path in (finished / 'model').iterdir()} == files
  assert _weights(finished) == weights
  assert _losses(finished) == losses
  again = json.loads((finished / 'summary.json').read_text())
  assert again.pop('compile_seconds') != summary.pop('compile_seconds')
  assert again == summary
  assert 'accuracy' in capsys.readouterr().out


def test_an_existing_model_learns_from_a_file(tmp_path):
  path = tmp_path / 'rows.jsonl'
  row = {'question': 'Start=1 a:+2', 'response': ' a:1+2=3</think>\\boxed{3}'}
  path.write_text(json.dumps(row) + '\n')
  keys = {
    'model.path': tiny_lrm.model_directory(),
    'data.train': path,
    'stages.a_facts.steps': 5,
  }
  assert _run(tmp_path / 'run', keys) == 0
  losses = [loss for *_, loss in _losses(tmp_path / 'run')]
  assert losses[-1] < losses[0]
  old, _ = huggingface.load(tiny_lrm.model_directory())
  new, _ = huggingface.load(tmp_path / 'run' / 'model')
  assert new == old


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    (
      NEW_MODEL | {'model.new.vocab_size': 128},
      'but the model only vocab_size=128',
    ),
    (
      NEW_MODEL | {'stages.a_facts.max_tokens': 10},
      'max_tokens=10: none of 1000 traces of level 1 in this style',
    ),
    (
      NEW_MODEL | {'optimizer.schedule': 'step'},
      "optimizer.schedule='step' is not one of constant, cosine, linear",
    ),
  ],
)
def test_mistakes_end_before_the_first_step(tmp_path, capsys, keys, message):
  assert _run(tmp_path, keys) == 2
  error = capsys.readouterr().err
  assert error.startswith('lrm: error: ')
  assert message in error
  assert len(error.splitlines()) == 1
  assert not (tmp_path / 'model').exists()
  metrics = tmp_path / 'metrics.jsonl'
  assert not metrics.exists() or not metrics.read_text()
