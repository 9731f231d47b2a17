"""A recipe that is shown stored rollouts, as training would have shown them.

Shaping, selection and credit are the functions of training, with the shapes
that it calls them with: on the same kind of device their results are its own,
to the bit. Responses, caps, targets and the number of rounds are as stored.
"""

import dataclasses
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from lrm_jax import gathering, programs, records, updating
from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.gathering import Batch, Scored
from lrm_jax.objectives import recipe as recipe_lib
from lrm_jax.objectives import revisions, targets
from lrm_jax.objectives.measures import Response
from lrm_jax.objectives.memory import MemoryStore
from lrm_jax.replaying.stored import Step
from lrm_jax.tokenization.base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Programs:
  """Those of `programs.Programs` that need no model."""

  shape: Any
  credit: Any
  correct: Any


@dataclasses.dataclass
class Player:
  """What `gathering.shape` and `updating.credit` read of an experiment.

  Attributes:
    name: in everything that is written.
    config: of the recipe; `objective`, `train.old_logp` and
      `train.keep_unverified` are read.
    recipe: built from it.
    programs: jitted, of the recipe.
    memory: moves on with every round.
    notes: what is not as it would be in training, for the user.
  """

  name: str
  config: ml_collections.ConfigDict
  recipe: recipe_lib.Recipe
  programs: Programs
  memory: MemoryStore
  notes: list[str] = dataclasses.field(default_factory=list)

  def note(self, text: str) -> None:
    """Remembers a remark, once."""
    if text not in self.notes:
      self.notes.append(text)


class Played(NamedTuple):
  """What a recipe makes of a step.

  Attributes:
    reward: `[N, G]`; NaN where there is no verdict.
    selected: `[N, G]` bool, what the selection keeps.
    chosen: `[B]`, the groups of the batch.
    batch: those, without samples that get no credit.
    credit: of the batch, `[B, G, T]`.
    advantage: `[N, G]`, the mean over tokens; 0 where dropped, NaN outside
      the batch.
    kept: `[N, G]` bool, what is trained on.
  """

  reward: np.ndarray
  selected: np.ndarray
  chosen: np.ndarray
  batch: Batch
  credit: updating.Credit
  advantage: np.ndarray
  kept: np.ndarray


def make(name: str, config: ml_collections.ConfigDict) -> Player:
  """A player that has seen nothing yet.

  Raises:
    UserError: `config.objective` is no recipe.
  """
  recipe = recipe_lib.build(config)
  player = Player(
    name,
    config,
    recipe,
    Programs(
      programs.make_shape(recipe),
      programs.make_credit(recipe),
      programs.make_correct(recipe),
    ),
    MemoryStore(recipe.start_memory()),
  )
  if recipe.revision.func is not revisions.unrevised:
    player.note('a revision is not applied: responses count as stored')
  if recipe.observes:
    player.note(
      'what a monitor would teach is missing: no samples of it are stored'
    )
  if recipe.demonstrates:
    player.note('nothing is demonstrated: groups learn from their own samples')
  if recipe.target.func is not targets.no_target:
    player.note('targets are not set: those of the stored prompts count')
  return player


def play(
  player: Player,
  step: Step,
  scored: Scored | None = None,
  tokenizer: Tokenizer | None = None,
) -> Played:
  """Shows a player a step; its memory moves on.

  Args:
    player: changes.
    step: what was sampled.
    scored: what a model says of all groups, `[N, G, T]`; stored numbers come
      first. None: there is no model.
    tokenizer: for measures that need one.

  Raises:
    UserError: the recipe needs something that is neither stored nor given.
  """
  player_step = dataclasses.replace(
    step,
    rollouts=dataclasses.replace(
      step.rollouts, measures=measure(player, step, tokenizer)
    ),
  )
  rollouts = player_step.rollouts
  _note_caps(player, step)
  shape = step.kept.shape
  reward, selected = np.zeros(shape, np.float32), np.zeros(shape, bool)
  judged = np.zeros(shape, bool)
  for rows in step.each_round():
    found = gathering.shape(
      player, *gathering.take(step.problems, rollouts, rows)
    )
    reward[rows], selected[rows], judged[rows] = found
  chosen = gathering.choose(selected, step.batch)
  batch = _batch(
    player, player_step, (reward, selected, judged), chosen, scored
  )
  batch, credit = updating.credit(player, batch)
  means = records.sample_advantage(credit.recorded, batch.rollouts, batch.keep)
  advantage, kept = np.full(shape, np.nan), np.zeros(shape, bool)
  advantage[chosen], kept[chosen] = means, batch.keep
  return Played(
    np.where(judged, reward, np.nan),
    selected,
    chosen,
    batch,
    credit,
    advantage,
    kept,
  )


def _batch(
  player: Player,
  step: Step,
  shaped: tuple[np.ndarray, np.ndarray, np.ndarray],
  chosen: np.ndarray,
  scored: Scored | None,
) -> Batch:
  """The batch, with log-probabilities and entropies as far as there are any."""
  reward, selected, judged = (x[chosen] for x in shaped)
  problems, rollouts = gathering.take(step.problems, step.rollouts, chosen)
  found = _scored(player, step, chosen, selected, scored)
  if found is not None:
    unknown = np.isnan(rollouts.sampler_logp) & selected[..., None]
    rollouts = dataclasses.replace(
      rollouts,
      sampler_logp=np.where(unknown, found.logp, rollouts.sampler_logp),
    )
  elif updating.is_trainers(player):
    # For no more than `Credit.old_logp`, which nobody reads without a model.
    found = Scored(rollouts.sampler_logp, rollouts.sampler_logp, 0.0)
  return Batch(
    problems, rollouts, reward, selected, judged, {}, sampled=None, scored=found
  )


def _scored(
  player: Player,
  step: Step,
  chosen: np.ndarray,
  selected: np.ndarray,
  scored: Scored | None,
) -> Scored | None:
  if step.is_scored[chosen][selected].all():
    return Scored(step.old_logp[chosen], step.entropy[chosen], 0.0)
  if scored is not None:
    mask = step.rollouts.mask[chosen] * selected[..., None]
    logp, entropy = (x[chosen] * mask for x in scored[:2])
    return Scored(logp, entropy, 0.0)
  if player.recipe.needs_entropy or player.recipe.is_corrected:
    part = 'credit' if player.recipe.needs_entropy else 'correction'
    raise UserError(
      f'{player.name}: its objective.{part} reads what the policy says of the '
      f'responses, and the rollouts of step {step.number} do not have that; '
      'give the model that sampled them as --model, or leave the recipe out'
    )
  return None


def _note_caps(player: Player, step: Step) -> None:
  rollouts = step.rollouts
  budget = player.recipe.budget
  own = {int(begun): int(budget(int(begun))) for begun in set(rollouts.step)}
  if any(
    own[int(s)] != c for s, c in zip(rollouts.step, rollouts.cap, strict=True)
  ):
    player.note(
      'the budget is another: caps and truncated responses are as stored'
    )


# --- Measures ---


class _NoTokenizer(Exception):
  """A measure asked for the tokenizer that is not there."""


class _Missing:
  """In the place of a tokenizer."""

  def __getattr__(self, name: str) -> Any:
    raise _NoTokenizer


def measure(
  player: Player, step: Step, tokenizer: Tokenizer | None
) -> dict[str, np.ndarray]:
  """The measures of a recipe, `[N, G]` float32 each.

  They are taken again from the text, with the keys of this recipe. Where one
  needs a tokenizer and there is none, the stored numbers are taken, whose keys
  are those of the run.

  Raises:
    UserError: there are none either.
  """
  found = {}
  for part in player.recipe.measures:
    try:
      found[part.name] = _measure(part.function, step, tokenizer)
    except _NoTokenizer:
      if part.name not in step.rollouts.measures:
        raise UserError(
          f'{player.name}: its measure {part.name!r} is not in the rollouts '
          f'of step {step.number}, and takes a tokenizer; give the model that '
          'sampled them as --model, or leave the recipe out'
        ) from None
      found[part.name] = step.rollouts.measures[part.name]
      player.note(f'the measure {part.name!r} is as stored, with its keys')
  return found


def _measure(
  function: Any, step: Step, tokenizer: Tokenizer | None
) -> np.ndarray:
  values = np.zeros(step.kept.shape, np.float32)
  rollouts = step.rollouts
  for at in np.ndindex(values.shape):
    problem, text = step.problems[at[0]], step.texts[at[0]][at[1]]
    values[at] = function(
      Response(
        text=text,
        ids=rollouts.response_ids[at][: rollouts.length[at]].tolist(),
        thinking=prompts.split_response(text)[0],
        thinking_length=int(rollouts.thinking_length[at]),
        gold=problem.answer,
        correct=bool(rollouts.correct[at]),
        tokenizer=_Missing() if tokenizer is None else tokenizer,
        question=problem.question,
      )
    )
  return values


# --- As training recorded it ---


def differences(step: Step, played: Played) -> dict[str, int]:
  """Samples of which a number is not the recorded one, to the last bit."""
  same = lambda a, b: (a == b) | (np.isnan(a) & np.isnan(b))
  return {
    'reward': int((~same(step.reward, played.reward)).sum()),
    'advantage': int((~same(step.advantage, played.advantage)).sum()),
    'kept': int((step.kept != played.kept).sum()),
  }
