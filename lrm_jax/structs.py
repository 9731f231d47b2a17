"""The data that passes between rooms, and the glossary of dimensions.

  B problems      G samples per problem      N = B * G sequences
  P prompt tokens (padded)                   T response tokens (padded)
  R x S packed rows x tokens per row         M micro-batches
  V vocabulary    D width    H / K query / key-value heads    L layers

Every length is in tokens. `response` counts everything the model wrote, the
end-of-sequence token included; `thinking` counts the tokens before
`</think>` (all of the response while it never closes).
"""

import dataclasses
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
  """Who grades a response instead of a comparison with a gold answer.

  Attributes:
    text: JSON from which the task makes its entry again.
  """

  text: str


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question with a checkable answer.

  Attributes:
    id: stable and unique within a data set; names the problem's random
      stream and its memory.
    question: plain text, without any prompt template.
    answer: the gold answer as text.
    level: difficulty as the data set states it; 0 where unknown.
    domain: such as 'arithmetic' or 'algebra'; '' where unknown.
    task: of a problem that its own task grades, the text of a `Task`; '' for
      answers that are compared.
  """

  id: str
  question: str
  answer: str
  level: int = 0
  domain: str = ''
  task: str = ''

  @property
  def gold(self) -> str | Task:
    """What a grader holds a response against."""
    return Task(self.task) if self.task else self.answer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rollouts:
  """G responses to each of B problems, as the objectives see them.

  Attributes:
    prompt_ids: `[B, P]` int32, right-padded.
    prompt_length: `[B]` int32 tokens.
    response_ids: `[B, G, T]` int32, right-padded.
    length: `[B, G]` int32 response tokens, end-of-sequence included.
    thinking_length: `[B, G]` int32 tokens before `</think>`.
    sampler_logp: `[B, G, T]` float32 natural log-probability under the law
      actually sampled; 0 outside the response, and NaN for what stood behind
      a piece that a revision took out.
    forced: `[B, G, T]` bool, tokens that were given and not sampled.
    truncated: `[B, G]` bool, no end-of-sequence token: it hit its cap, or a
      revision cut its end off.
    think_closed: `[B, G]` bool, `</think>` was written.
    correct: `[B, G]` float32 in {0, 1}: the verifier's verdict.
    answered: `[B, G]` bool, the verifier found an answer to compare.
    verified: `[B, G]` bool; False where the verifier's process was lost on the
      response, so that nobody knows whether it is right: `correct` is 0 then.
    removed: `[B, G]` int32 tokens that a revision took out; 0 as sampled.
    stale: `[B, G]` int32, how many of the first tokens were sampled under the
      parameters of an earlier step: they are off-policy.
    cap: `[B]` int32, the response-token cap each problem was sampled with.
    target: `[B]` int32, what the prompt asked for (tokens, or a level); 0
      where it asked for nothing.
    step: `[B]` int32, the RL step they were sampled for, counted from 1.
    problem_index: `[B]` int32, the first row of this batch with the same
      problem: its own row, unless a problem was drawn twice.
    measures: `[B, G]` float32 each: what `objectives/measures.py` read off
      the text of the responses, by name.
    guards: `[B, G]` bool each: what `rewards/guards.py` found, by name.
    kept_ids: `[B, G, T, M]` int32, the ids that truncation kept when a token
      was drawn, M at most, -1 in place of others; None without truncation.
  """

  prompt_ids: Array
  prompt_length: Array
  response_ids: Array
  length: Array
  thinking_length: Array
  sampler_logp: Array
  forced: Array
  truncated: Array
  think_closed: Array
  correct: Array
  answered: Array
  verified: Array
  removed: Array
  stale: Array
  cap: Array
  target: Array
  step: Array
  problem_index: Array
  measures: dict[str, Array]
  guards: dict[str, Array]
  kept_ids: Array | None = None

  @property
  def mask(self) -> Array:
    """`[B, G, T]` float32, 1 on response tokens that the model chose."""
    columns = np.arange(self.response_ids.shape[-1])
    inside = (columns < self.length[..., None]) & ~self.forced
    return inside.astype(np.float32)

  @property
  def there(self) -> Array:
    """`[B, G]` bool; False for what was never asked for.

    Where problems have different numbers of responses, the others of their G
    are over without a token: they ended before they began. They are in no mean,
    reward, memory or file, and are not trained on.
    """
    return (self.length > 0) | self.truncated

  @property
  def right(self) -> Array:
    """`[B, G]` bool: the verdict."""
    return self.correct > 0


# The fields of `Rollouts` that have no axis of samples.
OF_PROBLEMS = (
  *('prompt_ids', 'prompt_length', 'cap', 'target', 'step', 'problem_index'),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenTerms:
  """What a regularizer may look at; every field is `[B, G, T]` float32.

  Attributes:
    logp: log-probability under the policy being trained (nats).
    old_logp: the same under the policy that sampled.
    ref_logp: the same under the frozen reference policy.
    entropy: entropy of the trained policy's next-token law (nats).
    advantage: the advantage of each token.
    mask: 1 on tokens that are trained.
    focus: what a regularizer's `prepare` made of the whole mini-batch; 1
      everywhere for one that has none.
    answer: 1 on trained tokens that do not think.
  """

  logp: Array
  old_logp: Array
  ref_logp: Array
  entropy: Array
  advantage: Array
  mask: Array
  focus: Array
  answer: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
  """What one part of a recipe remembers between steps.

  Attributes:
    shared: arrays of any shape, one of each per run.
    problem: one number per problem. `[B]` arrays inside the part, the rows of
      the batch's problems; the default of an unseen problem (a scalar) where
      the part says how it starts.
  """

  shared: dict[str, Array]
  problem: dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything the jitted update changes.

  Attributes:
    step: int32 scalar, RL (or SFT) steps completed.
    params: the policy's parameters, a plain pytree.
    opt_state: the optimizer's state.
  """

  step: Array
  params: Any
  opt_state: Any
