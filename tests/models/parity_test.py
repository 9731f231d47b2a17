"""Our numbers are those of transformers.

The first half compares with logits that transformers computed once
(`tests/fixtures/make_parity.py`); it needs nothing but this repository. The
second half, marked `parity`, makes fresh models in transformers.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lrm_jax.checkpoints import huggingface
from lrm_jax.models import output_head, transformer
from lrm_jax.sampler.engine import Sampler
from tests.models import tiny

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
TOLERANCE = 1e-4  # largest difference of two logits of order one


def compute(config, params, tokens, positions, segment_ids):
  hidden, _ = tiny.apply(config, params, tokens, positions, segment_ids)
  return np.asarray(output_head.logits(config, params, hidden))


def compute_padded(config, params, ids, mask):
  mask = mask.astype(np.int32)
  positions = np.maximum(mask.cumsum(-1) - 1, 0)
  return compute(config, params, ids, positions, mask)


# With every change; the others have the marker `long`, and are compared with
# live models, marker `parity`, wherever those are installed.
EVERY_TIME = ('gemma3', 'llama_linear', 'qwen2_tied', 'qwen3', 'qwen3_moe')
VARIANTS = [
  pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long)
  for name in sorted(path.parent.name for path in FIXTURES.glob('*/logits.npz'))
]


@pytest.fixture(scope='module', params=VARIANTS)
def variant(request):
  return request.param


@pytest.fixture(scope='module')
def model(variant):
  return huggingface.load(FIXTURES / variant)


@pytest.fixture(scope='module')
def expected(variant):
  return dict(np.load(FIXTURES / variant / 'logits.npz'))


def rows_of(expected):
  rows = [expected[f'row{i}_ids'] for i in range(3)]
  return rows, [expected[f'row{i}_logits'] for i in range(3)]


def test_fixtures_can_tell_models_apart(expected):
  _, logits = rows_of(expected)
  assert all(x.std() > 0.5 for x in logits)


@pytest.mark.parametrize('side', ['right', 'left'])
def test_padded_rows(model, expected, side):
  mask = expected[f'{side}_mask']
  ours = compute_padded(*model, expected[f'{side}_ids'], mask)
  difference = (ours - expected[f'{side}_logits'])[mask]
  assert np.abs(difference).max() <= TOLERANCE


def test_packed_rows(model, expected):
  rows, logits = rows_of(expected)
  ours = compute(*model, *tiny.pack([rows], 30))[0]
  difference = ours[: sum(map(len, rows))] - np.concatenate(logits)
  assert np.abs(difference).max() <= TOLERANCE


def test_cached_decoding(model, expected):
  rows, logits = rows_of(expected)
  cuts = (2, 5, 4)
  ours = tiny.cached_logits(
    *model,
    [row[:cut] for row, cut in zip(rows, cuts, strict=True)],
    [[row[cut:]] for row, cut in zip(rows, cuts, strict=True)],
  )
  for (found,), cut, theirs in zip(ours, cuts, logits, strict=True):
    assert np.abs(found - theirs[cut - 1 :]).max() <= TOLERANCE


# Live: needs torch and transformers.

SEED = 11


@pytest.fixture(scope='module')
def live(variant, tmp_path_factory):
  """A fresh model in transformers, and ours read from what it saved."""
  why = 'compares with a live model of transformers'
  pytest.importorskip('torch', reason=why)
  pytest.importorskip('transformers', reason=why)
  from tests.fixtures import make_parity

  theirs = make_parity.make_model(SEED, variant)
  directory = tmp_path_factory.mktemp(variant)
  theirs.save_pretrained(directory)
  return make_parity, theirs, *huggingface.load(directory)


@pytest.mark.parity
@pytest.mark.parametrize('side', ['right', 'left'])
def test_live_padded_rows(live, side):
  make_parity, theirs, *ours = live
  _, ids, masks = make_parity.make_inputs(SEED)
  expected = make_parity.reference_logits(theirs, ids[side], masks[side])
  found = compute_padded(*ours, ids[side], masks[side])
  assert np.abs(found - expected)[masks[side]].max() <= TOLERANCE


@pytest.mark.parity
def test_live_packed_and_cached(live):
  make_parity, theirs, config, params = live
  rows, _, _ = make_parity.make_inputs(SEED, lengths=(20, 11, 7))
  logits = [make_parity.reference_logits(theirs, r[None])[0] for r in rows]
  packed = compute(config, params, *tiny.pack([rows], 40))[0]
  difference = packed[: sum(map(len, rows))] - np.concatenate(logits)
  assert np.abs(difference).max() <= TOLERANCE
  cached = tiny.cached_logits(
    config, params, [r[:3] for r in rows], [[r[3:]] for r in rows]
  )
  for (found,), expected in zip(cached, logits, strict=True):
    assert np.abs(found - expected[2:]).max() <= TOLERANCE


def gradient_errors(theirs, config, params, row, directory) -> dict[str, float]:
  """{tensor: largest error over its largest gradient}, of the cross-entropy."""
  import torch

  theirs.zero_grad()
  ids = torch.as_tensor(row)[None]
  theirs(ids, labels=ids).loss.backward()
  expected = {}
  for name, parameter in theirs.named_parameters():
    expected |= experts_apart(name, parameter.grad.numpy())

  def loss(params):
    hidden, _ = transformer.apply(config, params, *tiny.pack([[row]], len(row)))
    logp, _ = output_head.token_logp(
      config, params, hidden[:, :-1], jnp.asarray(row)[None, 1:]
    )
    return -logp.mean()

  huggingface.save(directory, config, jax.jit(jax.grad(loss))(params))
  found = safetensors.numpy.load_file(directory / 'model.safetensors')
  assert found.keys() == expected.keys()
  return {
    name: np.abs(gradient - expected[name]).max() / np.abs(expected[name]).max()
    for name, gradient in found.items()
    if expected[name].any()  # An expert may have got no token.
  }


def experts_apart(name, tensor) -> dict[str, np.ndarray]:
  """In memory, transformers has the experts of a layer in two tensors."""
  start, is_expert, last = name.rpartition('experts.')
  if not is_expert:
    return {name: tensor}
  parts = [('down', tensor)]
  if last == 'gate_up_proj':
    gate, up = np.split(tensor, 2, axis=1)
    parts = [('gate', gate), ('up', up)]
  return {
    f'{start}experts.{e}.{part}_proj.weight': values[e]
    for part, values in parts
    for e in range(len(tensor))
  }


@pytest.mark.parity
def test_live_gradients(live, tmp_path):
  make_parity, theirs, config, params = live
  (row,), _, _ = make_parity.make_inputs(SEED, lengths=(12,))
  errors = gradient_errors(theirs, config, params, row, tmp_path / 'gradients')
  assert max(errors.values()) <= 1e-4, errors


@pytest.mark.parity
def test_live_greedy_text(live, tmp_path):
  """Sampled by us, generated by transformers from what we export."""
  import torch
  import transformers

  make_parity, theirs, config, params = live
  huggingface.save(tmp_path / 'model', config, params)
  reloaded = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'model', attn_implementation='eager'
  )
  (row,), _, _ = make_parity.make_inputs(SEED, lengths=(7,))
  tokens = 12
  generated = reloaded.generate(
    torch.as_tensor(row)[None],
    attention_mask=torch.ones(1, len(row), dtype=int),
    max_new_tokens=tokens,
    min_new_tokens=tokens,
    do_sample=False,
    pad_token_id=0,
    eos_token_id=None,
  )
  sampler = Sampler(
    config,
    samples=1,
    slots=1,
    max_prompt_tokens=len(row),
    max_tokens=tokens,
    eos_ids=[config.vocab_size],  # none
    pad_id=0,
    think_close_ids=[0],
  )
  sampled = sampler.generate(
    params,
    row[None].astype(np.int32),
    np.array([len(row)], np.int32),
    problem_ids=['greedy'],
    caps=tokens,
    key=jax.random.key(0),
    temperature=0.0,
  )
  np.testing.assert_array_equal(
    sampled.response_ids[0, 0], generated[0, len(row) :].numpy()
  )


def rotation(model) -> dict:
  """Frequencies and factors of every kind of layer, before any row is run."""
  found = {
    name: buffer.tolist()
    for name, buffer in model.named_buffers()
    if 'original_inv_freq' in name
  }
  assert found
  factors = {
    name: value
    for name, value in vars(model.model.rotary_emb).items()
    if 'attention_scaling' in name
  }
  assert factors
  return found | factors


@pytest.mark.parity
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_live_export_reloads(live, tmp_path, dtype):
  import torch
  import transformers

  make_parity, theirs, config, params = live
  huggingface.save(tmp_path / 'model', config, params, dtype=dtype)
  reloaded, info = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'model', output_loading_info=True
  )
  assert type(reloaded) is type(theirs)
  assert reloaded.dtype == getattr(torch, dtype)
  assert not any(info[key] for key in ('missing_keys', 'unexpected_keys'))
  # The config says the same model: frequencies, eps, head_dim, tie.
  assert rotation(reloaded) == rotation(theirs)
  for name in ('rms_norm_eps', 'tie_word_embeddings', 'vocab_size'):
    assert getattr(reloaded.config, name) == getattr(theirs.config, name)
  original = dict(theirs.state_dict())
  for name, tensor in reloaded.state_dict().items():
    assert torch.equal(tensor, original[name].to(tensor.dtype)), name
  if dtype == 'float32':
    _, ids, masks = make_parity.make_inputs(SEED)
    found, expected = (
      make_parity.reference_logits(m, ids['right'], masks['right'])
      for m in (reloaded.eval(), theirs)
    )
    mask = masks['right']  # What stands in padding is nobody's promise.
    np.testing.assert_allclose(found[mask], expected[mask], atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize('tokens', [20, 32, 33, 40])
def test_live_longrope_within_and_beyond_its_first_window(tmp_path, tokens):
  """Of 32 tokens: up to there it has other frequencies than beyond."""
  why = 'compares with a live model of transformers'
  pytest.importorskip('torch', reason=why)
  pytest.importorskip('transformers', reason=why)
  from tests.fixtures import make_parity

  changes = {'original_max_position_embeddings': 32}
  theirs = make_parity.make_model(SEED, 'phi3_longrope', **changes)
  theirs.save_pretrained(tmp_path)
  config, params = huggingface.load(tmp_path)
  (row,), _, _ = make_parity.make_inputs(SEED, lengths=(tokens,))
  expected = make_parity.reference_logits(theirs, row[None])[0]
  config = config.for_length(tokens)
  found = compute(config, params, *tiny.pack([[row]], tokens))[0]
  assert np.abs(found - expected).max() <= TOLERANCE
