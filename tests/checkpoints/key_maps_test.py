"""The tables against what transformers saves."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from lrm_jax.checkpoints import huggingface, key_maps
from lrm_jax.models import presets
from tests.checkpoints import family_models
from tests.checkpoints.hf_models import FIXTURES

VARIANTS = sorted(path.parent.name for path in FIXTURES.glob('*/logits.npz'))


@pytest.mark.parametrize('name', VARIANTS)
def test_table_is_what_transformers_saves(name):
  """Every tensor once, with its shape."""
  config = huggingface.read_config(FIXTURES / name)
  tensors = load_file(FIXTURES / name / 'model.safetensors')
  slots = key_maps.slots(config)
  assert {k: key_maps.tensor_shape(blocks) for k, blocks in slots.items()} == {
    k: v.shape for k, v in tensors.items()
  }


@pytest.mark.parametrize('family', presets.PRESETS)
def test_every_element_of_every_leaf_has_one_place(family):
  config = family_models.config(family)
  counts = {
    path: np.zeros(shape, int)
    for path, shape in key_maps.leaf_shapes(config).items()
  }
  for blocks in key_maps.slots(config).values():
    start = 0
    for slot in blocks:
      assert slot.start == start
      start += slot.shape[0]
      target = counts[slot.path][(*slot.index, ...)]
      assert target.shape == slot.shape[:: -1 if slot.transposed else 1]
      target += 1
  for path, count in counts.items():
    assert (count == 1).all(), path


def test_models_of_the_tests_have_every_leaf_of_the_tables():
  paths = set()
  for family in presets.PRESETS:
    paths |= set(key_maps.leaf_shapes(family_models.config(family)))
  entries = {
    entry.path for table in key_maps.TABLES.values() for entry in table
  }
  assert {'/'.join(path) for path in paths} == entries


def test_layers_and_transposes_go_to_their_place(untied):
  config, params = huggingface.load(untied)
  tensors = load_file(untied / 'model.safetensors')
  for layer in range(config.n_layers):
    theirs = tensors[f'model.layers.{layer}.mlp.down_proj.weight']
    ours = params['layers']['mlp']['down']['kernel'][layer]
    np.testing.assert_array_equal(ours, theirs.T)
    theirs = tensors[f'model.layers.{layer}.self_attn.k_proj.bias']
    ours = params['layers']['attention']['k']['bias'][layer]
    np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(params['head'], tensors['lm_head.weight'].T)


def test_experts_and_projections_in_one_tensor_go_to_their_place():
  config, params = huggingface.load(FIXTURES / 'qwen3_moe')
  tensors = load_file(FIXTURES / 'qwen3_moe' / 'model.safetensors')
  last = config.experts.count - 1
  theirs = tensors[f'model.layers.1.mlp.experts.{last}.up_proj.weight']
  ours = params['layers']['experts']['up'][1, last]
  np.testing.assert_array_equal(ours, theirs.T)
  config, params = huggingface.load(FIXTURES / 'phi3')
  tensors = load_file(FIXTURES / 'phi3' / 'model.safetensors')
  theirs = tensors['model.layers.1.self_attn.qkv_proj.weight']
  ours = [params['layers']['attention'][x]['kernel'][1] for x in 'qkv']
  np.testing.assert_array_equal(np.concatenate(ours, -1), theirs.T)


def test_nest_and_flatten():
  tree = {'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}
  leaves = dict(key_maps.flatten(tree))
  assert leaves == {('a', 'b'): 1, ('a', 'c', 'd'): 2, ('e',): 3}
  assert key_maps.nest(leaves) == tree
