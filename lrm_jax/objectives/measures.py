"""Measures: numbers read off the text of a response, on the host.

`f(response, **keywords) -> float`. They land in `Rollouts.measures` under
their names, where shaping rewards find them.
"""

import dataclasses

from lrm_jax.tokenization.base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Response:
  """What a measure may look at.

  Attributes:
    text: everything the model wrote.
    ids: its tokens, end-of-sequence included.
    thinking: the text before `</think>`; all of it while that is missing.
    thinking_length: tokens of the thinking.
    gold: the gold answer of the problem.
    correct: the verifier's verdict.
    tokenizer: decodes ids.
  """

  text: str
  ids: list[int]
  thinking: str
  thinking_length: int
  gold: str
  correct: bool
  tokenizer: Tokenizer
