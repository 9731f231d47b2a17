"""Several recipes on the same steps, with or without a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrm_jax.errors import UserError
from lrm_jax.gathering import Scored
from lrm_jax.replaying import gradients, players
from lrm_jax.replaying.gradients import Model, Sums
from lrm_jax.replaying.players import Played, Player
from lrm_jax.replaying.stored import Step
from lrm_jax.replaying.tallies import Tally
from lrm_jax.structs import Array
from lrm_jax.tokenization.base import Tokenizer


class Session:
  """Shows steps to players, one behind the other, and counts.

  Args:
    recipes: players that have seen nothing yet.
    model: whose gradients are taken; None: rewards and advantages alone.
    tokenizer: of the model.
  """

  def __init__(
    self,
    recipes: Sequence[Player],
    model: Model | None = None,
    tokenizer: Tokenizer | None = None,
  ):
    self._players = recipes
    self._model, self._tokenizer = model, tokenizer
    self._tallies = [Tally() for _ in recipes]
    self._numbers: list[int] = []
    self._gap = self._gaps = self._tokens = 0.0
    self._cotangents = [
      gradients.make_cotangents(player.recipe) for player in recipes
    ]
    self._needs_reference = any(p.recipe.needs_reference for p in recipes)
    self._sums = None if model is None else Sums(model, len(recipes))

  def show(self, step: Step) -> None:
    """All players see the step; see `players.play`."""
    self._note_gap(step.number)
    scored = None if self._model is None else self._score(step)
    found = []
    for player, tally in zip(self._players, self._tallies, strict=True):
      played = players.play(player, step, scored, self._tokenizer)
      tally.add(step, played)
      found.append(played)
    if scored is not None:
      self._add_gradients(step, scored, found)

  def _note_gap(self, number: int) -> None:
    """What remembers has missed steps that are not there."""
    expected = self._numbers[-1] + 1 if self._numbers else 1
    self._numbers.append(number)
    for player in self._players:
      if number != expected and any(
        part.memory is not None for part in player.recipe.shaping
      ):
        player.note('steps are missing, and the memory knows nothing of them')

  def _score(self, step: Step) -> Scored:
    if not step.whole_law:
      raise UserError(
        f'the rollouts of step {step.number} were sampled with '
        'train.truncation, and the kept sets are not stored: gradients would '
        'be of another law; leave out --model'
      )
    everything = np.ones(step.kept.shape, bool)
    logp, entropy = self._model.score(step, self._model.params, everything)
    rollouts = step.rollouts
    known = (rollouts.mask > 0) & ~np.isnan(rollouts.sampler_logp)
    gaps = np.abs(logp - rollouts.sampler_logp)[known]
    self._gap = max(self._gap, float(gaps.max(initial=0.0)))
    self._gaps += float(gaps.sum())
    self._tokens += gaps.size
    return Scored(logp, entropy, 0.0)

  def _add_gradients(
    self, step: Step, scored: Scored, found: Sequence[Played]
  ) -> None:
    reference, model = scored.logp, self._model
    if self._needs_reference and model.reference is not model.params:
      everything = np.ones(step.kept.shape, bool)
      reference, _ = model.score(step, model.reference, everything)
    shape = (len(found), *scored.logp.shape)
    whole = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for k, played in enumerate(found):
      chosen = played.chosen
      each = self._cotangents[k](
        scored.logp[chosen],
        scored.entropy[chosen],
        reference[chosen],
        played.credit.old_logp,
        played.credit.advantages,
        played.credit.mask,
        played.batch.rollouts.thinking_length,
      )
      self._tallies[k].push(step, played, each, self._tokenizer)
      for values, part in zip(whole, (each.logp, each.entropy), strict=True):
        values[k, chosen] = part
    self._sums.add(step, whole)

  def rows(self) -> Any:
    """Of replay.jsonl, recipe by recipe."""
    for player, tally in zip(self._players, self._tallies, strict=True):
      yield from tally.rows(player.name)

  def summary(self) -> dict[str, Any]:
    """The numbers of all recipes; keys are stable."""
    names = [player.name for player in self._players]
    found = {
      name: {'notes': player.notes} | tally.summary(self._tokenizer)
      for name, player, tally in zip(
        names, self._players, self._tallies, strict=True
      )
    }
    advantages = [
      np.concatenate([x.ravel() for x in tally.advantages])
      for tally in self._tallies
    ]
    centred = np.stack(advantages)
    centred = centred - centred.mean(1, keepdims=True)
    summary = {
      'steps': self._numbers,
      'recipes': found,
      'correlations': _table(cosines(centred @ centred.T)),
      'cosines': None,
    }
    if self._sums is None:
      return summary
    gram = self._sums.gram()
    count = len(self._numbers)
    for k, name in enumerate(names):
      norms = {group: _norm(g, k) / count for group, g in gram.items()}
      found[name]['grad_norm'] = _norm(sum(gram.values()), k) / count
      found[name]['grad_norms'] = norms
    return summary | {
      'cosines': _table(cosines(sum(gram.values()))),
      'logp_gap_max': self._gap,
      'logp_gap_mean': self._gaps / max(1.0, self._tokens),
      'gradient_bytes': self._sums.bytes,
    }


def cosines(gram: Array) -> np.ndarray:
  """`[K, K]` of inner products; NaN for a vector without a length."""
  length = np.sqrt(np.diagonal(gram))
  scale = np.outer(length, length)
  found = np.asarray(gram) / np.where(scale > 0, scale, np.nan)
  # Rounding goes a little beyond.
  return np.clip(found, -1, 1)


def _norm(gram: Array, k: int) -> float:
  return float(np.sqrt(gram[k, k]))


def _table(values: np.ndarray) -> list[list[float | None]]:
  return [[None if np.isnan(x) else float(x) for x in row] for row in values]
