"""Model FLOPs, by hand and against the products in a program."""

import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax import flops
from lrm_jax.models import output_head, transformer
from lrm_jax.models.config import Experts
from lrm_jax.models.lora import Lora
from tests.models import tiny

# D=8, L=2, H=2, K=1, head_dim=4, F=10, V=100. A layer: q 8x8, k and v 8x4
# each, o 8x8, gate, up and down 8x10 each: 64 + 32 + 32 + 64 + 240 = 432
# weights. A head of 8x100. A pair: 4 * 2 * 4 = 32 FLOPs.
SIZES = {
  'vocab_size': 100,
  'd_model': 8,
  'n_heads': 2,
  'n_kv_heads': 1,
  'head_dim': 4,
  'd_ff': 10,
}


def make_config(**changes):
  return tiny.make_config(**SIZES | changes)


def test_grouped_queries_by_hand():
  config = make_config()
  assert flops.per_token(config) == 2 * (2 * 432 + 800)
  # Sequences of 3 and 1 tokens: 6 + 1 pairs in each of two layers.
  products = 2 * 2 * 432 * 4 + 32 * 2 * 7
  assert flops.forward(config, [3, 1]) == products + 2 * 800 * 4
  assert flops.forward(config, [3, 1], logits=0) == products
  assert flops.forward(config, [3, 1], logits=3) == products + 2 * 800 * 3
  # As many keys as queries: k and v are 8x8 too.
  many = make_config(n_kv_heads=2)
  assert flops.per_token(many) == 2 * (2 * (432 + 64) + 800)


def test_what_stands_before_is_seen_and_not_computed():
  config = make_config()
  # Two tokens after three: they see 4 and 5 keys.
  one = 2 * 2 * 432 * 2 + 32 * 2 * 9 + 2 * 800 * 2
  assert flops.forward(config, [2], starts=[3]) == one
  begun, all_ = flops.forward(config, [3]), flops.forward(config, [5])
  assert begun + one == all_


def test_windows_by_hand():
  """One layer sees two keys, the other all: of 5 tokens 1 + 2 * 4, and 15."""
  config = make_config(windows=(2, 0))
  products = 2 * 2 * 432 * 5
  assert flops.forward(config, [5], logits=0) == products + 32 * (9 + 15)
  # The last two: 2 + 2, and 4 + 5.
  last = flops.forward(config, [2], starts=[3], logits=0)
  assert last == 2 * 2 * 432 * 2 + 32 * (4 + 9)


def test_lm_infinite_sees_its_window_and_the_first_ten():
  config = make_config(positions='lm_infinite', trained_positions=3)
  pairs = 13 * 14 // 2 + 2 * 13
  whole = 2 * 2 * 432 * 15 + 32 * 2 * pairs
  assert flops.forward(config, [15], logits=0) == whole


def test_experts_by_hand():
  """Of 4 experts of width 6 a token uses 2; the router is 8x4."""
  config = make_config(experts=Experts(count=4, used=2, width=6))
  layer = 64 + 32 + 32 + 64 + 32 + 2 * 3 * 48
  assert flops.per_token(config) == 2 * (2 * layer + 800)


def test_flops_do_not_depend_on_tying():
  tied, untied = make_config(), make_config(tie_embeddings=False)
  assert flops.forward(tied, [7]) == flops.forward(untied, [7])


def test_update_by_hand():
  config = make_config()
  one = flops.forward(config, [3, 1], logits=2)
  assert flops.update(config, [3, 1], logits=2) == 3 * one
  assert flops.update(config, [3, 1], logits=2, forwards=2) == 5 * one


def test_update_of_adapters_by_hand():
  """Rank 3 on q (8 + 8) and down (10 + 8): 3 * 34 weights in each layer."""
  config = make_config()
  lora = Lora(rank=3, alpha=6, targets=('q', 'down'))
  matrices = 2 * 2 * 432 * 4 + 2 * 800 * 4
  attention = 32 * 2 * 7
  adapters = 2 * 2 * 3 * 34 * 4
  whole = 2 * matrices + 3 * (attention + adapters)
  assert flops.update(config, [3, 1], lora=lora) == whole
  reference = flops.forward(config, [3, 1])
  both = flops.update(config, [3, 1], lora=lora, forwards=1)
  assert both == whole + reference
  # In two experts of width 6, (6 + 8) for each.
  experts = make_config(experts=Experts(count=4, used=2, width=6))
  down = Lora(rank=3, alpha=6, targets=('down',))
  more = flops.update(experts, [4], lora=down, logits=0)
  pairs = 32 * 2 * 10
  base = 2 * flops.forward(experts, [4], logits=0) + pairs
  assert more == base + 3 * 2 * 2 * 3 * (2 * 14) * 4


def test_decode_by_hand():
  """Two responses, of 2 and 1 tokens, to a prompt of 3.

  Two tokens of the prompt, 1 + 2 pairs; then 2 + 1 tokens with logits, which
  see 3 + 4 and 3 keys.
  """
  config = make_config()
  found = flops.decode(config, [3], [[2, 1]])
  assert found == 2 * 2 * 432 * (2 + 3) + 32 * 2 * (3 + 10) + 2 * 800 * 3
  # A single one: all but its last token, as many logits as it has.
  alone = flops.forward(config, [3 + 2 - 1], logits=2)
  assert flops.decode(config, [3], [[2]]) == alone
  # In two halves it is the same.
  half = flops.decode(config, [3], [[1, 1]])
  assert half + flops.decode(config, [3], [[2, 1]], done=[[1, 1]]) == found
  assert flops.decode(config, [3], [[0, 0]]) == 0


def test_no_number_is_too_large():
  """70 billion parameters, a hundred million tokens: above 2^63."""
  config = make_config(
    vocab_size=128256,
    d_model=8192,
    n_layers=80,
    n_heads=64,
    n_kv_heads=8,
    head_dim=128,
    d_ff=28672,
  )
  found = flops.update(config, np.full(100, 2**20, np.int32))
  assert found > 2**63
  assert found == 100 * flops.update(config, [2**20])


# --- Against a program ---


def count_products(jaxpr) -> int:
  """FLOPs of the dot_generals of a program, loops included."""
  total = 0
  for equation in jaxpr.eqns:
    times = equation.params.get('length', 1)
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left, out = equation.invars[0].aval, equation.outvars[0].aval
      inner = math.prod(left.shape[axis] for axis in contracted)
      total += 2 * inner * math.prod(out.shape)
    for inside in jax.extend.core.jaxprs_in_params(equation.params):
      total += times * count_products(inside)
  return total


def loss(config, params, tokens):
  """Something of all logits of one sequence."""
  at = jnp.arange(tokens.shape[1])[None]
  hidden, _ = transformer.apply(
    config, params, tokens, at, jnp.ones_like(tokens)
  )
  return jnp.sum(output_head.logits(config, params, hidden) ** 2)


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'n_kv_heads': 2, 'tie_embeddings': False},
    {'n_layers': 3, 'scan_unroll': 3, 'qkv_bias': True},
  ],
)
def test_products_of_a_program(changes):
  """The reference kernel multiplies all S^2 pairs, those behind masks too."""
  config = make_config(**changes)
  length = 7
  tokens = jnp.zeros((1, length), jnp.int32)
  params = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  unseen = length * length - length * (length + 1) // 2
  masked = 4 * config.n_heads * config.head_dim * config.n_layers * unseen
  function = lambda params: loss(config, params, tokens)
  program = jax.make_jaxpr(function)(params)
  expected = flops.forward(config, [length]) + masked
  assert count_products(program.jaxpr) == expected
  # Backward is twice forward, of attention too.
  both = jax.make_jaxpr(jax.grad(function))(params)
  expected = flops.update(config, [length]) + 3 * masked
  assert count_products(both.jaxpr) == expected
