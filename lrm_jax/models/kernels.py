"""Attention kernels that others keep: cuDNN's on a GPU, splash on a TPU.

Both compute products of placed queries and keys, causal within the segments of
a row; what they cannot do `ModelConfig` refuses. Queries are
`[N, S, H, head_dim]`, keys and values `[N, S, K, head_dim]`, and query head h
reads key/value head h // (H / K), as everywhere.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from lrm_jax import mesh as mesh_lib
from lrm_jax.errors import UserError
from lrm_jax.structs import Array

# Of splash: rows are cut into blocks of a multiple of LANES tokens, BLOCK at
# most. Larger ones spare loads, smaller ones skip more of what is masked.
LANES = 128
BLOCK = 512


def dot_product(
  q: Array, k: Array, v: Array, mask: Array, *, scale: float
) -> Array:
  """`jax.nn.dot_product_attention`: cuDNN or XLA, by backend and dtype.

  cuDNN where JAX runs on a GPU and q is bfloat16 or float16, the dtypes it has;
  XLA in every other case, whose S^2 scores exist. cuDNN reads the mask as S^2
  biases that all heads share, but makes no scores.

  Args:
    q: placed queries.
    k: placed keys.
    v: values.
    mask: `[N, S, S]` bool, True where a query (axis 1) sees a key (axis 2).
    scale: of the products.

  Returns:
    Like q.
  """
  attend = functools.partial(jax.nn.dot_product_attention, scale=scale)
  if mesh_lib.platform() != 'gpu' or q.dtype == jnp.float32:
    return attend(q, k, v, mask=mask[:, None], implementation='xla')
  # The backward pass of cuDNN wants an even length where there is a mask.
  length = q.shape[1]
  odd = length % 2
  q, k, v = (_pad(x, odd) for x in (q, k, v))
  mask = jnp.pad(mask, ((0, 0), (0, odd), (0, odd)))
  out = attend(q, k, v, mask=mask[:, None], implementation='cudnn')
  return out[:, :length]


def splash(
  q: Array,
  k: Array,
  v: Array,
  segment_ids: Array,
  *,
  scale: float,
  window: int,
  softcap: float,
) -> Array:
  """Pallas' splash attention; no S^2 array exists, forward or backward.

  On a TPU; on a CPU it is interpreted, which is slow and serves tests. Blocks
  that nobody may see are skipped. A window counts places in the row and not
  positions, which is the same where positions run on by one within a segment.

  On a mesh each device has its own rows, heads and places of queries; keys and
  values of a row are brought together from all its places.

  Args:
    q: placed queries.
    k: placed keys.
    v: values.
    segment_ids: `[N, S]` int32; padding is a segment like the others.
    scale: of the products.
    window: tokens a query sees, itself included; 0: all before it.
    softcap: scores s become c * tanh(s / c); 0: never.

  Returns:
    Like q.

  Raises:
    UserError: JAX runs on a GPU.
  """
  if mesh_lib.platform() == 'gpu':
    raise UserError(
      "model: attention='splash' runs on TPUs, and JAX found a GPU; choose "
      'dot_product there'
    )
  length, parts = q.shape[1], _parts('places')
  own = -(-length // parts)
  blocks = -(-own // BLOCK)
  block = -(-own // (blocks * LANES)) * LANES
  room = parts * blocks * block - length
  # Splash does not scale. It wants heads before places, one row at a time.
  q = q * jnp.asarray(scale, q.dtype)
  q, k, v = (jnp.swapaxes(_pad(x, room), 1, 2) for x in (q, k, v))
  segment_ids = _pad(segment_ids, room)
  rows = functools.partial(
    _splash_rows, block=block, window=window, softcap=softcap
  )
  run = functools.partial(
    jax.lax.platform_dependent,
    cpu=functools.partial(rows, interpret=True),
    tpu=functools.partial(rows, interpret=False),
  )
  precision = 'highest' if q.dtype == jnp.float32 else 'default'
  out = _multiplied_in(precision, run)(q, k, v, segment_ids)
  return jnp.swapaxes(out, 1, 2)[:, :length]


def _multiplied_in(
  precision: str, kernel: Callable[..., Array]
) -> Callable[..., Array]:
  """`kernel(q, k, v, segment_ids)`, its products in this precision.

  A setting around it is not enough. The backward pass is traced where the
  gradient is asked for, out of its reach, and would multiply float32 in
  bfloat16. And a setting of 'highest' around all of a model does reach the
  kernel, which does not compile with it for bfloat16.
  """
  in_precision = functools.partial(jax.default_matmul_precision, precision)

  @jax.custom_vjp
  def run(*inputs):
    with in_precision():
      return kernel(*inputs)

  def forward(q, k, v, segment_ids):
    with in_precision():
      return jax.vjp(lambda *qkv: kernel(*qkv, segment_ids), q, k, v)

  def backward(pull, slopes):
    with in_precision():
      return *pull(slopes), None

  run.defvjp(forward, backward)
  return run


def _splash_rows(q, k, v, segment_ids, *, block, window, softcap, interpret):
  """Of `[N, heads, S, head_dim]`, S a multiple of `block`."""
  # Imported here: it takes a second, and only those who use it need it.
  from jax.experimental.pallas.ops.tpu import splash_attention

  heads, length = q.shape[1:3]
  mask = splash_attention.CausalMask((length, length))
  if window:
    # (tokens before, tokens after), the query itself not counted.
    mask = splash_attention.LocalMask((length, length), (window - 1, 0), 0)
  sizes = (
    *('block_q', 'block_kv', 'block_kv_compute'),
    *('block_q_dkv', 'block_kv_dkv', 'block_kv_dkv_compute'),
    *('block_q_dq', 'block_kv_dq'),
  )
  kernel = splash_attention.make_splash_mha(
    splash_attention.MultiHeadMask([mask] * heads),
    block_sizes=splash_attention.BlockSizes(**dict.fromkeys(sizes, block)),
    attn_logits_soft_cap=softcap if softcap else None,
    head_shards=_parts('heads'),
    q_seq_shards=_parts('places'),
    interpret=interpret,
  )

  def all_rows(kernel, q, k, v, *ids):
    def one(q, k, v, *ids):
      return kernel(q, k, v, splash_attention.SegmentIds(*ids))

    return jax.vmap(one)(q, k, v, *ids)

  inputs = q, k, v, segment_ids, segment_ids
  mesh = mesh_lib.current()
  if mesh is None:
    return all_rows(kernel, *inputs)
  blocks = NamedSharding(mesh, mesh_lib.spec('heads', 'places'))
  queries = mesh_lib.spec('rows', 'heads', 'places')
  keys = mesh_lib.spec('rows', 'heads')
  own_ids, all_ids = mesh_lib.spec('rows', 'places'), mesh_lib.spec('rows')
  return jax.shard_map(
    all_rows,
    in_specs=(
      kernel.manual_sharding_spec(blocks),
      *(queries, keys, keys, own_ids, all_ids),
    ),
    out_specs=queries,
    check_vma=False,
  )(kernel, *inputs)


def _parts(name: str) -> int:
  """In how many the mesh cuts an axis; 1 without one."""
  mesh = mesh_lib.current()
  return 1 if mesh is None else mesh_lib.ways(name, mesh)


def _pad(x: Array, room: int) -> Array:
  """Zeros behind the places of `[N, S, ...]`."""
  return jnp.pad(x, [(0, 0), (0, room)] + [(0, 0)] * (x.ndim - 2))
