"""The architecture as data: one transformer, every difference a field."""

import dataclasses

from lrm_jax import errors

DTYPES = ('float32', 'bfloat16', 'float16')
REMAT = ('none', 'full', 'dots')


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder-only transformer of the Qwen2 kind.

  Attributes:
    vocab_size: rows of the embedding (V), padding rows included.
    d_model: width (D).
    n_layers: layers (L).
    n_heads: query heads (H).
    n_kv_heads: key/value heads (K); H is a multiple of K.
    head_dim: width of a head; even, because RoPE turns pairs.
    d_ff: inner width of the SwiGLU.
    max_positions: the window; a longer sequence is refused.
    rope_theta: base of the rotary frequencies.
    rms_eps: added to the mean square before the root.
    tie_embeddings: the output head is the embedding transposed.
    qkv_bias: biases on query, key and value projections.
    param_dtype: dtype in which parameters are stored.
    compute_dtype: dtype of activations and matrix products.
    logits_dtype: dtype of the products that give logits; log-probabilities
      are always reduced in float32.
    remat: what the backward pass recomputes: 'none', 'dots' (keep matrix
      products) or 'full' (keep layer inputs only).
    scan_unroll: layers per iteration of the scan. 1 compiles fastest and
      suits deep models; n_layers spares a shallow one the copies that a loop
      makes of its saved activations.
  """

  vocab_size: int
  d_model: int
  n_layers: int
  n_heads: int
  n_kv_heads: int
  head_dim: int
  d_ff: int
  max_positions: int = 32768
  rope_theta: float = 1e6
  rms_eps: float = 1e-6
  tie_embeddings: bool = True
  qkv_bias: bool = True
  param_dtype: str = 'float32'
  compute_dtype: str = 'float32'
  logits_dtype: str = 'float32'
  remat: str = 'none'
  scan_unroll: int = 1

  def __post_init__(self):
    if self.n_heads % self.n_kv_heads:
      raise errors.UserError(
        f'model: n_heads={self.n_heads} is not a multiple of '
        f'n_kv_heads={self.n_kv_heads}; change one of them'
      )
    if self.head_dim % 2:
      raise errors.UserError(
        f'model: head_dim={self.head_dim} is odd; rotary positions need an '
        'even head_dim'
      )
    for name in ('param_dtype', 'compute_dtype', 'logits_dtype'):
      _check_choice(name, getattr(self, name), DTYPES)
    _check_choice('remat', self.remat, REMAT)

  def flops_per_token(self, context: float = 0.0) -> float:
    """Forward matrix-product FLOPs of one token.

    2 FLOPs per multiply-add over every weight matrix, the output head
    included, plus 4 * L * H * head_dim * context for the two attention
    products against `context` keys. A training step is three forwards.
    """
    heads = self.n_heads * self.head_dim
    kv = self.n_kv_heads * self.head_dim
    layer = self.d_model * (2 * heads + 2 * kv + 3 * self.d_ff)
    weights = self.n_layers * layer + self.d_model * self.vocab_size
    return 2.0 * weights + 4.0 * self.n_layers * heads * context


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
  if value not in allowed:
    raise errors.UserError(
      f'model: {name}={value!r} is not one of {", ".join(allowed)}'
    )
