r"""Problems -> prompts, and responses -> thinking and answer.

A prompt ends where the model starts to think: with `<think>` and a newline.
It is made by the model's own chat template, or by a plain form where it has
none:

  R1-Distill  <bos><|User|>QUESTION<|Assistant|><think>\n    by its template
  Qwen2.5     ...<|im_start|>assistant\n + <think>\n         opened here
  no template, `<|User|>` and `<|Assistant|>` in the vocabulary
              <|User|>QUESTION<|Assistant|><think>\n
  nothing     Question: QUESTION\n<think>\n
"""

from lrm_jax.data import templates
from lrm_jax.tokenization import base

THINK_OPEN = '<think>'
THINK_CLOSE = '</think>'
# How long to think, in words: levels 0, 1 and 2.
LEVELS = ('short', 'medium', 'long')
# Where an instruction states a target: in tokens, or as a level.
PLACES = ('{target}', '{level}')

# The directive for mathematics that the README of DeepSeek-R1 recommends.
R1_INSTRUCTION = (
  'Please reason step by step, and put your final answer within \\boxed{}.'
)


def format_prompt(
  tokenizer: base.Tokenizer, question: str, instruction: str = ''
) -> str:
  r"""The text a model is given for a question.

  Args:
    tokenizer: its chat template is used where it has one, with the question
      as the only message and `add_generation_prompt`. A template that opened
      thinking itself is left as it ends; after any other `<think>\n` is
      appended.
    question: plain text; special tokens spelled in it are not escaped.
    instruction: put on a line of its own after the question; '' for none.

  Returns:
    The prompt.

  Raises:
    UserError: as `templates.render`.
  """
  content = f'{question}\n{instruction}' if instruction else question
  if tokenizer.chat_template is not None:
    prompt = templates.render(
      tokenizer.chat_template, content, tokenizer.special_tokens
    )
    is_open = prompt.rstrip().endswith(THINK_OPEN)
    return prompt if is_open else f'{prompt}{THINK_OPEN}\n'
  symbols = ('<|User|>', '<|Assistant|>')
  if all(base.is_symbol(tokenizer, symbol) for symbol in symbols):
    return f'<|User|>{content}<|Assistant|>{THINK_OPEN}\n'
  return f'Question: {content}\n{THINK_OPEN}\n'


def state_target(instruction: str, target: int) -> str:
  r"""The instruction with what this prompt asks for.

  `{target}` becomes the number, `{level}` the word of level 0, 1 or 2. Other
  braces, as in `\boxed{}`, stay.
  """
  text = instruction.replace('{target}', str(target))
  if '{level}' in text:
    text = text.replace('{level}', LEVELS[target])
  return text


def states_target(instruction: str) -> bool:
  """Whether an instruction has a place for a target."""
  return any(place in instruction for place in PLACES)


def encode_prompt(
  tokenizer: base.Tokenizer, question: str, instruction: str = ''
) -> list[int]:
  """`format_prompt` as token ids; nothing is added or cut."""
  return tokenizer.encode(format_prompt(tokenizer, question, instruction))


def split_response(text: str) -> tuple[str, str, bool]:
  """Splits a response at its first `</think>`.

  Args:
    text: what the model wrote after the prompt.

  Returns:
    `(thinking, answer, closed)`. Where thinking closed, the text is exactly
    `thinking + '</think>' + answer`; otherwise all of it is thinking and the
    answer is ''.
  """
  thinking, tag, answer = text.partition(THINK_CLOSE)
  return thinking, answer, bool(tag)
