"""The families of Hugging Face models that are read and written.

A family is a preset of the transformer (`models/presets.py`), the fields of
its config.json below, and a table of its tensors (`key_maps.py`).
"""

import dataclasses
from typing import Any, NamedTuple


class Field(NamedTuple):
  """A value both sides have.

  Attributes:
    ours: name in `ModelConfig`.
    theirs: name in config.json.
    types: Python types `json` may give it.
    default: what the file means by leaving it out; None where it must not.
      A string names the field of theirs that it then equals.
    nullable: null means 0 to us, as 0 means null to them.
  """

  ours: str
  theirs: str
  types: tuple[type, ...] = (int,)
  default: int | float | bool | str | None = None
  nullable: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
  """One of FAMILIES.

  Attributes:
    architecture: the name that transformers gives the model.
    model_type: likewise.
    activation: name and value of the field that says it.
    fields: numbers of a model.
    supported: fields that change what is computed and are not ours -> the
      values we implement, each of which is also what an absent field means.
    windows: how layers get their windows, one of `windows.RULES`.
    window: what an absent `sliding_window` means, in tokens.
    rope_theta: what an absent one means.
  """

  architecture: str
  model_type: str
  fields: tuple[Field, ...]
  activation: tuple[str, str] = ('hidden_act', 'silu')
  supported: dict[str, tuple[Any, ...]] = dataclasses.field(
    default_factory=dict
  )
  windows: str = 'none'
  window: int | None = None
  rope_theta: float = 1e4


_SIZES = (
  Field('vocab_size', 'vocab_size'),
  Field('d_model', 'hidden_size'),
  Field('n_layers', 'num_hidden_layers'),
  Field('n_heads', 'num_attention_heads'),
  Field('d_ff', 'intermediate_size'),
)
_UNGROUPED = Field(
  'n_kv_heads', 'num_key_value_heads', default='num_attention_heads'
)
_GROUPED = Field('n_kv_heads', 'num_key_value_heads')


def _fields(window: int, eps: float, tied: bool, kv: Field = _GROUPED):
  """Fields of every family, with the defaults of this one."""
  return (
    *_SIZES,
    kv,
    Field('max_positions', 'max_position_embeddings', default=window),
    Field('rms_eps', 'rms_norm_eps', (int, float), eps),
    Field('tie_embeddings', 'tie_word_embeddings', (bool,), tied),
  )


def _cap(ours: str, theirs: str, default: float) -> Field:
  """A soft cap: absent or null is none where `default` is 0."""
  return Field(ours, theirs, (int, float), default, nullable=True)


_QUERY_WIDTH = Field('query_width', 'query_pre_attn_scalar', (int, float), 256)
_NO_BIAS = {'attention_bias': (False, None)}
_QWEN = {'use_mrope': (False, None)}
_GELU = ('hidden_activation', 'gelu_pytorch_tanh')
_GEMMA = _NO_BIAS | {'use_bidirectional_attention': (False, None)}

FAMILIES: dict[str, Family] = {
  'qwen2': Family(
    'Qwen2ForCausalLM',
    'qwen2',
    _fields(32768, 1e-6, tied=False),
    supported=_QWEN,
    windows='after_layers',
    window=4096,
  ),
  'qwen3': Family(
    'Qwen3ForCausalLM',
    'qwen3',
    (
      *_fields(32768, 1e-6, tied=False),
      Field('head_dim', 'head_dim', default=128),
    ),
    supported=_QWEN | _NO_BIAS,
    windows='after_layers',
    window=4096,
  ),
  'qwen3_moe': Family(
    'Qwen3MoeForCausalLM',
    'qwen3_moe',
    _fields(32768, 1e-6, tied=False),
    supported=_QWEN
    | _NO_BIAS
    | {'decoder_sparse_step': (1,), 'mlp_only_layers': ([], None)},
    windows='if_used',
    window=4096,
  ),
  'llama': Family(
    'LlamaForCausalLM',
    'llama',
    _fields(2048, 1e-6, tied=False, kv=_UNGROUPED),
    supported=_NO_BIAS | {'mlp_bias': (False, None)},
  ),
  'mistral': Family(
    'MistralForCausalLM',
    'mistral',
    _fields(131072, 1e-6, tied=False, kv=_UNGROUPED._replace(default=8)),
    windows='everywhere',
    window=4096,
  ),
  'phi3': Family(
    'Phi3ForCausalLM',
    'phi3',
    _fields(4096, 1e-5, tied=False, kv=_UNGROUPED),
    windows='everywhere',
  ),
  'gemma2': Family(
    'Gemma2ForCausalLM',
    'gemma2',
    (
      *_fields(8192, 1e-6, tied=True),
      Field('head_dim', 'head_dim', default=256),
      _cap('attention_softcap', 'attn_logit_softcapping', 50.0),
      _cap('logits_softcap', 'final_logit_softcapping', 30.0),
      _QUERY_WIDTH,
    ),
    activation=_GELU,
    supported=_GEMMA,
    windows='every_second',
    window=4096,
  ),
  'gemma3': Family(
    'Gemma3ForCausalLM',
    'gemma3_text',
    (
      *_fields(131072, 1e-6, tied=True),
      Field('head_dim', 'head_dim', default=256),
      _cap('logits_softcap', 'final_logit_softcapping', 0),
      _QUERY_WIDTH,
    ),
    activation=_GELU,
    # transformers stores a cap of the scores here and computes none.
    supported=_GEMMA | {'attn_logit_softcapping': (None,)},
    windows='but_every_sixth',
    window=4096,
    rope_theta=1e6,
  ),
}
