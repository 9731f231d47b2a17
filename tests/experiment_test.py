"""What a config says of the model that training starts from."""

import pathlib
from types import SimpleNamespace

import pytest

from lrm_jax import collecting, configuration, experiment, resuming
from lrm_jax.checkpoints import huggingface
from lrm_jax.errors import UserError
from lrm_jax.models.rope import Rope
from lrm_jax.sampler import closing
from tests import bits

TINY = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny'
NTK = {'kind': 'ntk', 'theta': 1e4, 'settings': {'factor': 2.0}}


def load(**changes):
  config = configuration.load(TINY / 'grpo.py', [])
  with config.unlocked():
    config.model.update(changes)
  return experiment.load_model(config)


def test_a_checkpoint_as_it_is():
  model, _, tokenizer = load()
  assert (model.family, model.rope) == ('qwen2', Rope(theta=1e4))
  assert tokenizer.vocab_size <= model.vocab_size
  assert model.run_positions == 0


@pytest.mark.parametrize(
  ('changes', 'name', 'value'),
  [
    ({'rope': NTK}, 'rope', Rope('ntk', 1e4, 1.0, (('factor', 2.0),))),
    ({'positions': 'nope'}, 'positions', 'nope'),
    ({'max_positions': 4096}, 'max_positions', 4096),
    (
      {'positions': 'lm_infinite', 'trained_positions': 512},
      'trained_positions',
      512,
    ),
  ],
)
def test_positions_of_a_checkpoint_may_be_others(
  tmp_path, changes, name, value
):
  """The same weights; as a model of our own they are exported, too."""
  model, params, tokenizer = load(family='lrm', **changes)
  assert getattr(model, name) == value
  huggingface.save(tmp_path / 'model', model, params, tokenizer)
  again, found = huggingface.load(tmp_path / 'model')
  assert getattr(again, name) == value
  bits.assert_same(found, params)


def test_frequencies_for_the_length_of_the_run():
  """The prompt and the longest response of training or evaluation."""
  settings = {'factor': 2.0, 'original_max_position_embeddings': 256}
  rope = {'kind': 'dynamic', 'theta': 1e4, 'settings': settings}
  config = configuration.load(TINY / 'grpo.py', [])
  model, _, _ = load(family='lrm', rope=rope)
  longest = max(config.train.max_tokens, config.eval.max_tokens)
  assert model.reach == config.data.max_prompt_tokens + longest


def collectors(**changes):
  config = configuration.load(TINY / 'grpo.py', [])
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  model, _, tokenizer = experiment.load_model(config)
  return config, *collecting.make_collectors(config, model, tokenizer, None)


def test_training_and_evaluation_share_a_sampler():
  """As large as either needs it; each gets what its section says."""
  changes = {'train.samples': 6, 'eval.samples': 2, 'eval.thinking_budget': 9}
  config, train, evaluation = collectors(**changes)
  one, other = train.sampler, evaluation.sampler
  assert one.layout == other.layout
  assert one._states is other._states
  assert (one.samples, other.samples, one.layout.readers) == (6, 2, 6)
  assert one.max_tokens == config.train.max_tokens
  assert other.max_tokens == config.eval.max_tokens
  assert one.layout.max_tokens == max(one.max_tokens, other.max_tokens)
  assert one.layout.ending_ids
  assert train.thinking_budget == closing.ENDLESS
  assert evaluation.thinking_budget == 9
  # Twice as many prompts as fill the slots two by two, per lane.
  slots = one.layout.limit
  assert one.layout.prompts == slots + 2 * -(-slots // 2) + 2


def test_an_evaluation_that_truncates_has_a_sampler_of_its_own():
  _, train, evaluation = collectors(**{'eval.truncation.top_p': 0.9})
  assert train.sampler.layout.rules == ()
  assert evaluation.sampler.layout.rules == ('top_p',)
  assert train.sampler._states is not evaluation.sampler._states
  assert train.sampler.layout.max_tokens == train.sampler.max_tokens


def test_a_checkpoint_from_before_responses_in_flight():
  old = SimpleNamespace(
    latest_step=lambda: 7, restore_host=lambda step: {'problem_ids': []}
  )
  with pytest.raises(UserError, match='checkpoint of step 7: written before'):
    resuming.restore(None, old)
