"""Which axes of the mesh divide every parameter of every family, literally."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from lrm_jax import mesh as mesh_lib
from lrm_jax import sharding
from lrm_jax.checkpoints import families
from tests.checkpoints import family_models

SIZES = {'data': 1, 'fsdp': 2, 'tensor': 2, 'context': 1, 'expert': 2}
# What a Llama has, and so has each of them.
COMMON = {
  'embedding': P('tensor', 'fsdp'),
  'final_norm/scale': P(None),
  'layers/attention_norm/scale': P(None, None),
  'layers/attention/q/kernel': P(None, 'fsdp', 'tensor'),
  'layers/attention/k/kernel': P(None, 'fsdp', 'tensor'),
  'layers/attention/v/kernel': P(None, 'fsdp', 'tensor'),
  'layers/attention/o/kernel': P(None, 'tensor', 'fsdp'),
  'layers/mlp_norm/scale': P(None, None),
}
# Of all but those with tied embeddings.
HEAD = {'head': P('fsdp', 'tensor')}
MLP = {
  'layers/mlp/gate/kernel': P(None, 'fsdp', 'tensor'),
  'layers/mlp/up/kernel': P(None, 'fsdp', 'tensor'),
  'layers/mlp/down/kernel': P(None, 'tensor', 'fsdp'),
}
EXPERTS = {
  'layers/experts/router/kernel': P(None, 'fsdp', None),
  'layers/experts/gate': P(None, 'expert', 'fsdp', 'tensor'),
  'layers/experts/up': P(None, 'expert', 'fsdp', 'tensor'),
  'layers/experts/down': P(None, 'expert', 'tensor', 'fsdp'),
}
BIASES = {
  'layers/attention/q/bias': P(None, 'tensor'),
  'layers/attention/k/bias': P(None, 'tensor'),
  'layers/attention/v/bias': P(None, 'tensor'),
}
QK_NORMS = {
  'layers/attention/q_norm/scale': P(None, None),
  'layers/attention/k_norm/scale': P(None, None),
}
POST_NORMS = {
  'layers/post_attention_norm/scale': P(None, None),
  'layers/post_mlp_norm/scale': P(None, None),
}
# Without the head.
SPECS = {
  'qwen2': COMMON | MLP | BIASES,
  'qwen3': COMMON | MLP | QK_NORMS,
  'qwen3_moe': COMMON | EXPERTS | QK_NORMS,
  'llama': COMMON | MLP,
  'mistral': COMMON | MLP,
  # Its files have q, k and v in one tensor, and gate and up; the tree has not.
  'phi3': COMMON | MLP,
  'gemma2': COMMON | MLP | POST_NORMS,
  'gemma3': COMMON | MLP | POST_NORMS | QK_NORMS,
  # Our own, here with all that it can have.
  'lrm': COMMON
  | MLP
  | BIASES
  | QK_NORMS
  | POST_NORMS
  | {'position_bias': P(None, 'tensor')},
}


@pytest.mark.parametrize('is_tied', [False, True])
@pytest.mark.parametrize('family', SPECS)
def test_parameters(family, is_tied):
  config = family_models.config(family, tie_embeddings=is_tied)
  mesh = jax.sharding.AbstractMesh(tuple(SIZES.values()), tuple(SIZES))
  assert mesh.axis_names == mesh_lib.AXES
  found = {
    '/'.join(path): spec
    for path, spec in sharding.parameter_specs(config, mesh).items()
  }
  assert found == (SPECS[family] if is_tied else SPECS[family] | HEAD)


def test_all_families_are_here():
  assert set(SPECS) == {*families.FAMILIES, 'lrm'}
