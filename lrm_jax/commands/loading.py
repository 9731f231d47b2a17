"""What `lrm sample` and `lrm eval` share: flags, a model, its sampler."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
from absl import flags

from lrm_jax import assets
from lrm_jax.checkpoints import huggingface
from lrm_jax.data.prompts import THINK_CLOSE
from lrm_jax.errors import UserError
from lrm_jax.models.config import ModelConfig
from lrm_jax.models.transformer import Params
from lrm_jax.sampler import closing, settings, truncation_rules
from lrm_jax.sampler.draw import COLDEST
from lrm_jax.sampler.engine import Sampler
from lrm_jax.tokenization import base


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that is ready to run.

  Attributes:
    config: the architecture.
    params: on the device.
    tokenizer: checked against the config.
  """

  config: ModelConfig
  params: Params
  tokenizer: base.Tokenizer


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags that both verbs have."""
  define_sampling_flags(flag_values)
  flags.DEFINE_string(
    'model',
    'tiny_lrm',
    'Model directory in the Hugging Face layout, or the name of an embedded '
    'model.',
    flag_values,
  )
  flags.DEFINE_float(
    'temperature',
    1.0,
    'Temperature of sampling; 0 takes the most likely token.',
    lower_bound=0.0,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Seed of the random stream; a sample depends on it, the id and the sample '
    'number alone.',
    lower_bound=0,
    upper_bound=2**31 - 1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'batch',
    32,
    'Prompts sampled at once, n responses each; fewer need less memory.',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'instruction',
    '',
    'Put on a line of its own after every question.',
    flag_values,
  )
  flags.DEFINE_enum(
    'dtype',
    'float32',
    ['float32', 'bfloat16'],
    'Of parameters and activations; log-probabilities stay float32.',
    flag_values,
  )


def define_sampling_flags(flag_values: flags.FlagValues) -> None:
  """Adds flags of what is sampled and where it ends."""
  flags.DEFINE_list(
    'truncation',
    [],
    'Rules of truncation, such as top_p=0.95,top_k=20; known are '
    f'{", ".join(truncation_rules.Rules._fields)}, and most (ids that are ever '
    'kept).',
    flag_values,
  )
  flags.DEFINE_multi_string(
    'stop', [], 'A text that ends a response; may be repeated.', flag_values
  )
  flags.DEFINE_integer(
    'thinking_budget',
    0,
    'Tokens of thinking at most; then --thinking_end is forced. 0 for no '
    'budget.',
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'thinking_end', THINK_CLOSE, 'See --thinking_budget.', flag_values
  )


def parse_truncation(parts: Sequence[str]) -> dict[str, float]:
  """`['top_p=0.95', ...]` as numbers by name."""
  found = {}
  for part in parts:
    name, _, text = part.partition('=')
    try:
      value = float(text)
    except ValueError as error:
      raise UserError(
        f'--truncation: {part!r} is not NAME=NUMBER, such as top_p=0.95'
      ) from error
    found[name] = int(value) if value.is_integer() else value
  return found


def load(flag_values: flags.FlagValues) -> Model:
  """Loads --model and its tokenizer.

  Raises:
    UserError: there is no such model, or its files cannot be used.
  """
  directory = assets.resolve(flag_values.model)
  tokenizer = base.load(directory)
  dtype = flag_values.dtype
  config, params = huggingface.load(
    directory, param_dtype=dtype, compute_dtype=dtype
  )
  config = huggingface.fit_vocabulary(config, tokenizer)
  return Model(config, params, tokenizer)


def make_sampler(
  model: Model,
  flag_values: flags.FlagValues,
  *,
  samples: int,
  prompts: int,
  width: int,
) -> Sampler:
  """A sampler of `samples` responses each to batches of at most `prompts`.

  `width` is that of the prompts, see `prompt_width`.
  """
  return Sampler(
    model.config.for_length(width + flag_values.max_tokens),
    samples=samples,
    slots=min(flag_values.batch, prompts) * samples,
    max_prompt_tokens=width,
    max_tokens=flag_values.max_tokens,
    eos_ids=model.tokenizer.eos_ids,
    pad_id=model.tokenizer.pad_id,
    think_close_ids=base.think_close_ids(model.tokenizer),
    **settings.options(
      model.tokenizer,
      'flags',
      truncation=parse_truncation(flag_values.truncation),
      stop=flag_values.stop,
      thinking_budget=flag_values.thinking_budget,
      thinking_end=flag_values.thinking_end,
    ),
  )


def prompt_width(
  config: ModelConfig, prompts: Mapping[str, Sequence[int]], max_tokens: int
) -> int:
  """P: the longest prompt, rounded up to a power of two.

  Rounded, so that different sets of prompts share a compiled program.

  Args:
    config: states the model's window.
    prompts: token ids by the names that messages use; at least one prompt.
    max_tokens: room for each response.

  Raises:
    UserError: a prompt and its response do not fit into the window.
  """
  lengths = {name: len(ids) for name, ids in prompts.items()}
  name = max(lengths, key=lengths.__getitem__)
  if lengths[name] + max_tokens > config.max_positions:
    raise UserError(
      f"{name}: prompt longer than the model's window: {lengths[name]} tokens "
      f'and --max_tokens={max_tokens} exceed its {config.max_positions} '
      'positions; lower --max_tokens or shorten the prompt'
    )
  return 1 << (lengths[name] - 1).bit_length()


def thinking_budget(flag_values: flags.FlagValues) -> int:
  """Tokens, for a sampler."""
  budget = flag_values.thinking_budget
  return budget if budget else closing.ENDLESS


def check_temperature(flag_values: flags.FlagValues) -> None:
  """Refuses infinities, NaN, and what is too cold to compute with."""
  value = flag_values.temperature
  if not (value == 0 or COLDEST <= value < math.inf):
    raise UserError(
      f'--temperature={value}: must be 0, for the most likely token, or a '
      f'finite number, at least {COLDEST}'
    )


def count_parameters(model: Model) -> int:
  """All of them, those of embeddings too."""
  return sum(leaf.size for leaf in jax.tree.leaves(model.params))


def speed(tokens: int, seconds: float, compile_seconds: float) -> dict:
  """Keys of the summary; `tokens_per_second` leaves compilation out."""
  return {
    'tokens_per_second': tokens / (seconds - compile_seconds),
    'compile_seconds': compile_seconds,
    'device': jax.devices()[0].device_kind,
  }
