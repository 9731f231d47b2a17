"""What a recipe made of many steps, in a few numbers."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np

from lrm_jax.replaying import players
from lrm_jax.replaying.gradients import Cotangents
from lrm_jax.replaying.players import Played
from lrm_jax.replaying.stored import Step
from lrm_jax.tokenization.base import Tokenizer

QUADRANTS = ('right_short', 'right_long', 'wrong_short', 'wrong_long')
# Tokens that a summary lists, and tokens shown around each.
MOST_PUSHED = 10
_BEFORE, _AFTER = 12, 4


def quadrants(right: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
  """Which of the four a sample is: `[N, G]` bool each.

  Short is up to the median length of the sample's own group, as advantages
  compare samples of one problem; where all are equally long, all are short.

  Args:
    right: `[N, G]` bool.
    length: `[N, G]` tokens.
  """
  short = length <= np.median(length, axis=1, keepdims=True)
  return {
    'right_short': right & short,
    'right_long': right & ~short,
    'wrong_short': ~right & short,
    'wrong_long': ~right & ~short,
  }


class Means:
  """Means over the samples of each quadrant, of step after step."""

  def __init__(self):
    self._sum, self._count = collections.Counter(), collections.Counter()

  def add(
    self,
    values: np.ndarray,
    counted: np.ndarray,
    parts: dict[str, np.ndarray],
  ) -> None:
    """Counts `values` `[N, G]` where `counted` `[N, G]` is True."""
    for name, part in parts.items():
      chosen = part & counted
      self._sum[name] += float(values[chosen].sum())
      self._count[name] += int(chosen.sum())

  def means(self) -> dict[str, float | None]:
    """By quadrant; None where there is no sample."""
    return {
      name: self._sum[name] / self._count[name] if self._count[name] else None
      for name in QUADRANTS
    }

  def counts(self) -> dict[str, int]:
    """Samples of each quadrant."""
    return {name: self._count[name] for name in QUADRANTS}


class Tally:
  """Of one recipe.

  Attributes:
    advantages: `[N, G]` of each step; 0 for what is not trained on.
    loss: the sum over steps; None without a model.
  """

  def __init__(self):
    self.advantages: list[np.ndarray] = []
    self.loss: float | None = None
    self._reward, self._advantage = Means(), Means()
    self._counts = collections.Counter()
    self._rows: list[tuple] = []
    self._pushed = Pushed()

  def add(self, step: Step, played: Played) -> None:
    """Counts a step."""
    rollouts = step.rollouts
    parts = quadrants(rollouts.right, rollouts.length)
    self._reward.add(played.reward, ~np.isnan(played.reward), parts)
    self._advantage.add(played.advantage, played.kept, parts)
    groups = zero_gradient_groups(played)
    self._counts.update(groups)
    self._counts['tokens'] += int(rollouts.mask.sum())
    self._counts['tokens_kept'] += int(played.credit.mask.sum())
    for name, count in players.differences(step, played).items():
      self._counts[f'differs_{name}'] += count
    self.advantages.append(np.nan_to_num(played.advantage))
    ids = [problem.id for problem in step.problems]
    self._rows.append((step.number, step.rounds, ids, played))

  def push(
    self,
    step: Step,
    played: Played,
    found: Cotangents,
    tokenizer: Tokenizer,
  ) -> None:
    """Counts what the loss of a step makes of its tokens."""
    self.loss = (0.0 if self.loss is None else self.loss) + float(found.loss)
    self._pushed.add(step, played, np.asarray(found.logp), tokenizer)

  def rows(self, recipe: str) -> Iterator[dict[str, Any]]:
    """One a sample, for replay.jsonl."""
    none = lambda x: None if np.isnan(x) else float(x)
    for number, rounds, ids, played in self._rows:
      for at in np.ndindex(played.kept.shape):
        yield {
          'recipe': recipe,
          'step': number,
          'round': int(rounds[at[0]]),
          'id': ids[at[0]],
          'sample': at[1],
          'reward': none(played.reward[at]),
          'advantage': none(played.advantage[at]),
          'kept': bool(played.kept[at]),
        }

  def summary(self, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The numbers; keys are stable. With a tokenizer, also those of tokens."""
    counts, steps = self._counts, len(self._rows)
    found = {
      'reward': self._reward.means(),
      'advantage': self._advantage.means(),
      'samples': self._reward.counts(),
      'samples_kept': self._advantage.counts(),
      'zero_gradient_groups': counts['zero'] / max(1, counts['asked']),
      'tokens_kept': counts['tokens_kept'] / max(1, counts['tokens']),
      'differs_from_recorded': {
        name: counts[f'differs_{name}']
        for name in ('reward', 'advantage', 'kept')
      },
    }
    if tokenizer is not None:
      found['loss'] = (0.0 if self.loss is None else self.loss) / steps
      found |= self._pushed.summary(tokenizer)
    return found


def zero_gradient_groups(played: Played) -> dict[str, int]:
  """`asked`: groups that the recipe could have trained on; `zero` of them.

  Zero are those that its selection drops, and those of the batch in which
  every trained token has an advantage of 0; what regularizers add does not
  count. Kept groups for which the batch had no room are not counted at all.
  """
  credit = played.credit
  dropped = int((~played.selected.any(1)).sum())
  pushed = [
    (np.asarray(x) * credit.mask).any((1, 2)) for x in credit.advantages
  ]
  is_selected = played.selected[played.chosen].any(1)
  idle = int((is_selected & ~np.any(pushed, axis=0)).sum())
  return {
    'asked': dropped + int(is_selected.sum()),
    'zero': dropped + idle,
  }


class Pushed:
  """Tokens with the largest |d loss / d log-probability|."""

  def __init__(self):
    self._found: list[dict[str, Any]] = []
    self._by_id = collections.Counter()
    self._size = 0.0

  def add(
    self,
    step: Step,
    played: Played,
    of_logp: np.ndarray,
    tokenizer: Tokenizer,
  ) -> None:
    """Looks at a batch; `of_logp` is `[B, G, T]`."""
    ids = played.batch.rollouts.response_ids
    size = np.abs(of_logp)
    self._size += float(size.sum())
    for token in np.unique(ids[size > 0]):
      self._by_id[int(token)] -= float(of_logp[ids == token].sum())
    order = np.argsort(-size, axis=None, kind='stable')[:MOST_PUSHED]
    for place in order[size.ravel()[order] > 0]:
      at = tuple(int(i) for i in np.unravel_index(place, size.shape))
      self._found.append(self._told(step, played, at, of_logp[at], tokenizer))
    self._found.sort(key=lambda row: -abs(row['push']))
    del self._found[MOST_PUSHED:]

  def _told(
    self,
    step: Step,
    played: Played,
    at: tuple[int, int, int],
    gradient: float,
    tokenizer: Tokenizer,
  ) -> dict[str, Any]:
    b, g, t = at
    rollouts = played.batch.rollouts
    length = int(rollouts.length[b, g])
    ids = rollouts.response_ids[b, g, :length].tolist()
    return {
      'step': step.number,
      'id': played.batch.problems[b].id,
      'sample': g,
      'position': t,
      'token': _shown(tokenizer, ids[t]),
      'before': tokenizer.decode(ids[max(0, t - _BEFORE) : t]),
      'after': tokenizer.decode(ids[t + 1 : t + 1 + _AFTER]),
      'push': -float(gradient),
      'correct': bool(rollouts.correct[b, g]),
    }

  def summary(self, tokenizer: Tokenizer) -> dict[str, Any]:
    """`push` is positive where a token becomes likelier.

    `pushed_tokens` are single ones, `pushed_ids` sums over all tokens of an
    id, with their share of all pushes.
    """
    ranked = sorted(self._by_id.items(), key=lambda item: -abs(item[1]))
    return {
      'pushed_tokens': self._found,
      'pushed_ids': [
        {
          'id': token,
          'token': _shown(tokenizer, token),
          'push': push,
          'share': abs(push) / self._size,
        }
        for token, push in ranked[:MOST_PUSHED]
        if push
      ],
    }


def _shown(tokenizer: Tokenizer, token: int) -> str:
  """Its text; a number for one that has none, as the end of a sequence."""
  text = tokenizer.decode([token])
  return text if text else f'<{token}>'
