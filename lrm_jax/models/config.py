"""The architecture as data: one transformer, every difference a field."""

import dataclasses

from lrm_jax import errors
from lrm_jax.models import frequencies
from lrm_jax.models import rope as rope_lib
from lrm_jax.models.rope import Rope

DTYPES = ('float32', 'bfloat16', 'float16')
REMAT = ('none', 'full', 'dots')
ACTIVATIONS = ('silu', 'gelu_tanh')
# Keys of `positions.SCHEMES` and of `attention.KERNELS`, which read this file.
POSITIONS = ('rope', 'nope', 'alibi', 'hard_alibi', 't5', 'lm_infinite')
ATTENTION = ('reference', 'chunked', 'dot_product', 'splash')
# Those whose scores are products of placed queries and keys and nothing else,
# and the kernels that compute nothing else.
PLAIN_POSITIONS = ('rope', 'nope')
PLAIN_ATTENTION = ('dot_product', 'splash')
# What cuDNN takes, in its dtypes: multiples of 8, this at most.
MAX_CUDNN_HEAD_DIM = 256


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """What may differ from layer to layer beside the weights.

  Attributes:
    window: tokens a query sees, itself included; 0: all before it.
    rope: its rotary frequencies.
  """

  window: int
  rope: Rope


@dataclasses.dataclass(frozen=True)
class Experts:
  """A mixture of experts in place of the one feed-forward network.

  Attributes:
    count: experts (E).
    used: experts that each token is sent to.
    width: inner width of an expert.
    normalize: the weights of those used are divided by their sum.
  """

  count: int
  used: int
  width: int
  normalize: bool = True


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder-only transformer.

  Which values make a Qwen, a Llama or a Gemma: `models/presets.py`.

  Attributes:
    family: whose checkpoints it reads and writes, one of `presets.PRESETS`;
      changes nothing else.
    vocab_size: rows of the embedding (V), padding rows included.
    d_model: width (D).
    n_layers: layers (L).
    n_heads: query heads (H).
    n_kv_heads: key/value heads (K); H is a multiple of K.
    head_dim: width of a head; even, because RoPE turns pairs.
    d_ff: inner width of the gated feed-forward network.
    max_positions: the window; a longer sequence is refused.
    run_positions: tokens that sequences of a run reach; rotary frequencies
      that depend on the window look at it. 0: `max_positions`. See
      `for_length`.
    used_vocab: ids that exist; rows of the embedding from there on are
      padding and never sampled. 0: all of `vocab_size`.
    positions: how attention knows order, one of `positions.SCHEMES`.
    trained_positions: for 'lm_infinite': tokens it was trained on, which are
      as many as a query sees beside the first few.
    rope: rotary frequencies, where the scheme rotates.
    local_rope: those of layers with a window; None: `rope` too.
    windows: per layer, tokens a query sees (itself included), 0 for all
      before it; empty: 0 for every layer.
    rms_eps: added to the mean square before the root.
    norm_plus_one: norms multiply by 1 + scale.
    post_norms: attention and feed-forward outputs are normed before they are
      added to the residual stream.
    qk_norm: queries and keys are normed per head, before rotation.
    qkv_bias: biases on query, key and value projections.
    query_width: queries are multiplied by its root's inverse; 0: head_dim.
    attention_softcap: scores s become c * tanh(s / c); 0: never.
    logits_softcap: the same for logits.
    activation: of the feed-forward gate.
    experts: None: one feed-forward network.
    scale_embeddings: embeddings are multiplied by D^(1/2).
    tie_embeddings: the output head is the embedding transposed.
    param_dtype: dtype in which parameters are stored.
    compute_dtype: dtype of activations and matrix products.
    logits_dtype: dtype of the products that give logits; log-probabilities
      are always reduced in float32.
    attention: how attention over whole sequences is computed, one of
      `attention.KERNELS`: 'reference'; 'chunked', which is faster and takes
      longer rows, but is no plain formula;
      'dot_product', which is cuDNN on a GPU; 'splash' on a TPU. Windows count
      positions, but places in the row in 'splash', which differ only where the
      positions of a segment leave gaps.
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
  run_positions: int = 0
  family: str = 'lrm'
  used_vocab: int = 0
  positions: str = 'rope'
  trained_positions: int = 0
  rope: Rope = Rope()
  local_rope: Rope | None = None
  windows: tuple[int, ...] = ()
  rms_eps: float = 1e-6
  norm_plus_one: bool = False
  post_norms: bool = False
  qk_norm: bool = False
  qkv_bias: bool = True
  query_width: float = 0.0
  attention_softcap: float = 0.0
  logits_softcap: float = 0.0
  activation: str = 'silu'
  experts: Experts | None = None
  scale_embeddings: bool = False
  tie_embeddings: bool = True
  param_dtype: str = 'float32'
  compute_dtype: str = 'float32'
  logits_dtype: str = 'float32'
  attention: str = 'reference'
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
    _check_choice('activation', self.activation, ACTIVATIONS)
    _check_choice('positions', self.positions, POSITIONS)
    _check_choice('attention', self.attention, ATTENTION)
    _check_windows(self)
    _check_attention(self)
    for rope in (self.rope, self.local_rope):
      if rope is not None:
        # Refuses what does not fit the head.
        rope_lib.frequencies(rope, self.head_dim, self.max_positions)
    if not 0 <= self.used_vocab <= self.vocab_size:
      raise errors.UserError(
        f'model: used_vocab={self.used_vocab} is not within vocab_size='
        f'{self.vocab_size}; give at most that, or 0 for all'
      )
    if self.experts and not 1 <= self.experts.used <= self.experts.count:
      raise errors.UserError(
        f'model: experts.used={self.experts.used} is not within '
        f'experts.count={self.experts.count}; give from 1 to that'
      )

  @property
  def kinds(self) -> tuple[LayerKind, ...]:
    """Every kind of layer there is, in the order of their appearance."""
    return tuple(dict.fromkeys(self._kind_of_each))

  @property
  def layer_kinds(self) -> tuple[int, ...]:
    """Of each layer, its index in `kinds`."""
    return tuple(map(self.kinds.index, self._kind_of_each))

  @property
  def _kind_of_each(self) -> tuple[LayerKind, ...]:
    local = self.rope if self.local_rope is None else self.local_rope
    return tuple(
      LayerKind(window, local if window else self.rope)
      for window in (self.windows if self.windows else (0,) * self.n_layers)
    )

  def for_length(self, tokens: int) -> 'ModelConfig':
    """The config for a run whose sequences reach `tokens` at most.

    LongRoPE and dynamic NTK have other frequencies for long sequences than for
    short ones. `transformers` decides by each batch; here a run decides once,
    because keys in a cache are rotated already and sampling and training must
    agree.
    """
    ropes = [self.rope, *([self.local_rope] if self.local_rope else [])]
    if not any(rope.kind in frequencies.BY_WINDOW for rope in ropes):
      return self
    return dataclasses.replace(self, run_positions=tokens)

  def share(self, devices: int) -> 'ModelConfig':
    """What one of several devices computes of heads and inner widths.

    The vocabulary stays what it is.
    """
    experts = self.experts
    if experts is not None:
      experts = dataclasses.replace(experts, width=experts.width // devices)
    return dataclasses.replace(
      self,
      n_heads=self.n_heads // devices,
      n_kv_heads=self.n_kv_heads // devices,
      d_ff=self.d_ff // devices,
      experts=experts,
    )

  @property
  def reach(self) -> int:
    """Tokens that sequences reach at most."""
    return self.run_positions if self.run_positions else self.max_positions


def _check_windows(config: ModelConfig) -> None:
  windows, positions = config.windows, config.positions
  if windows and len(windows) != config.n_layers:
    raise errors.UserError(
      f'model: windows has {len(windows)} entries for n_layers='
      f'{config.n_layers}; give one for each layer, or none'
    )
  if any(window < 0 for window in windows):
    raise errors.UserError(
      f'model: windows={windows} has a negative one; give tokens, 0 for all '
      'before a query'
    )
  if (config.trained_positions > 0) != (positions == 'lm_infinite'):
    raise errors.UserError(
      f'model: trained_positions={config.trained_positions} with positions='
      f"{positions!r}; 'lm_infinite' needs it and no other scheme does"
    )
  if positions == 'lm_infinite' and any(windows):
    raise errors.UserError(
      f"model: windows={windows} with positions='lm_infinite', whose window is "
      'trained_positions; leave windows empty'
    )


def _check_attention(config: ModelConfig) -> None:
  """Refuses what the kernels of others cannot do."""
  name = config.attention
  if name not in PLAIN_ATTENTION:
    return
  if config.positions not in PLAIN_POSITIONS:
    raise errors.UserError(
      f'model: attention={name!r} has no positions={config.positions!r}, only '
      f'{" or ".join(PLAIN_POSITIONS)}; choose reference or chunked'
    )
  if name == 'dot_product' and config.attention_softcap:
    raise errors.UserError(
      "model: attention='dot_product' has no attention_softcap="
      f'{config.attention_softcap}, only 0; choose reference, chunked or splash'
    )
  if name == 'splash' and config.compute_dtype == 'float16':
    raise errors.UserError(
      "model: attention='splash' has no compute_dtype='float16', only float32 "
      'or bfloat16; choose one of them'
    )
  if name == 'dot_product' and config.compute_dtype != 'float32':
    if config.head_dim % 8 or config.head_dim > MAX_CUDNN_HEAD_DIM:
      raise errors.UserError(
        f"model: attention='dot_product' in {config.compute_dtype} has no "
        f'head_dim={config.head_dim}, only multiples of 8 up to '
        f'{MAX_CUDNN_HEAD_DIM}; choose reference or chunked'
      )


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
  if value not in allowed:
    raise errors.UserError(
      f'model: {name}={value!r} is not one of {", ".join(allowed)}'
    )
