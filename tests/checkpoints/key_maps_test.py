"""The table against what transformers saves."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from lrm_jax.checkpoints import huggingface, key_maps
from tests.checkpoints.hf_models import FIXTURES


@pytest.mark.parametrize('name', ['qwen2_tied', 'qwen2_untied'])
def test_table_is_what_transformers_saves(name):
  """Every tensor once, with its shape, and every leaf of ours."""
  config = huggingface.read_config(FIXTURES / name)
  tensors = load_file(FIXTURES / name / 'model.safetensors')
  slots = key_maps.slots(config)
  assert {k: slot.shape for k, slot in slots.items()} == {
    k: v.shape for k, v in tensors.items()
  }
  used = [(slot.path, slot.layer) for slot in slots.values()]
  assert len(set(used)) == len(used)
  assert {path for path, _ in used} == set(key_maps.leaf_shapes(config))


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
