"""What XLA makes of a chunk: keys and values stay where they are."""

import functools
import re

import jax
import pytest

from lrm_jax.models import transformer
from lrm_jax.sampler import decode
from lrm_jax.sampler import layout as layout_lib
from lrm_jax.sampler import state as state_lib
from lrm_jax.sampler.truncation_rules import Rules
from tests.models import tiny

CONFIG = tiny.make_config()


def _layout(kv_dtype):
  return layout_lib.make_layout(
    samples=3,
    fewest_samples=3,
    at_once=0,
    slots=33,
    max_prompt_tokens=70,
    max_tokens=140,
    kv_tokens=0,
    eos_ids=(5,),
    close_ids=(9,),
    ending_ids=(),
    rules=(),
    most=None,
    kept=0,
    round_tokens=8,
    kv_dtype=kv_dtype,
  )


@functools.cache
def _compiled(kv_dtype):
  """The optimized program, and the shapes of pools and scratch in it."""
  layout = _layout(kv_dtype)
  state = jax.eval_shape(lambda: state_lib.empty(CONFIG, layout))
  params = jax.eval_shape(
    lambda: transformer.init_params(CONFIG, jax.random.key(0))
  )
  turned = jax.eval_shape(functools.partial(transformer.turn, CONFIG), params)
  requests = state_lib.no_requests(layout)
  assert requests.rules == Rules()
  lowered = decode.chunk.lower(CONFIG, layout, turned, requests, state)
  names = {'float32': 'f32', 'bfloat16': 'bf16', 'int8': 's8'}
  pools = jax.tree.leaves(
    (state.prompt_pools, state.response_pools, state.scratch)
  )
  shapes = {
    f'{names[leaf.dtype.name]}[{",".join(map(str, leaf.shape))}]'
    for leaf in pools
  }
  return lowered.compile().as_text(), shapes, len(pools)


@pytest.mark.parametrize(
  'kv_dtype',
  ['compute', 'bfloat16', pytest.param('int8', marks=pytest.mark.long)],
)
class TestChunk:
  def test_no_pool_is_copied(self, kv_dtype):
    program, shapes, _ = _compiled(kv_dtype)
    copied = re.findall(r'= (\w+\[[\d,]*\])\S* copy(?:-start)?\(', program)
    # Otherwise the program is written in another way than this looks for.
    assert copied
    assert not shapes & set(copied)

  def test_pools_are_written_where_they_were_read(self, kv_dtype):
    """Every parameter with the shape of a pool is donated."""
    program, shapes, count = _compiled(kv_dtype)
    head, entry = program.split('\n', 1)[0], program.split('\nENTRY')[1]
    aliases = re.findall(r'input_output_alias=\{(.*?) \}, ', head)
    donated = set(re.findall(r': \((\d+),', ''.join(aliases)))
    found = re.findall(r'= (\w+\[[\d,]*\])\S* parameter\((\d+)\)', entry)
    pools = [number for shape, number in found if shape in shapes]
    assert len(pools) == count
    assert set(pools) <= donated
