"""The sizes that a sampler is compiled for."""

import pytest

from lrm_jax.errors import UserError
from lrm_jax.sampler import layout


def make(slots, **options):
  sizes = {'max_prompt_tokens': 32, 'kv_tokens': 0}
  return layout.make_layout(
    samples=2,
    fewest_samples=2,
    at_once=0,
    slots=slots,
    max_tokens=40,
    eos_ids=(5,),
    close_ids=(9,),
    ending_ids=(),
    rules=(),
    most=None,
    kept=0,
    round_tokens=8,
    kv_dtype='compute',
    **sizes | options,
  )


def widths(slots, **options):
  made = make(slots, **options)
  assert made.limit == slots and made.slots == made.widths[-1]
  return made.widths


@pytest.mark.parametrize(
  ('slots', 'expected'),
  [(64, (16, 32, 64)), (48, (24, 48)), (20, (20,)), (3, (16,))],
)
def test_rounds_of_few_rows_on_a_cpu(slots, expected):
  assert widths(slots) == expected


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_one_width_elsewhere(platform):
  assert widths(64, platform=platform) == (64,)


@pytest.mark.parametrize(
  ('slots', 'tensor', 'expected'),
  # 17 become 20 rows, and half of 24 rows is not one each for 8 devices.
  [(64, 2, (16, 32, 64)), (17, 4, (20,)), (96, 8, (24, 48, 96)), (3, 6, (18,))],
)
def test_each_device_of_a_lane_has_as_many_rows(slots, tensor, expected):
  assert widths(slots, tensor=tensor) == expected


def test_room_for_one_is_enough():
  """40 tokens are two pages; a prompt of 65 is three."""
  assert make(64, kv_tokens=64).response_pages == 2
  made = make(64, kv_tokens=96, max_prompt_tokens=65)
  assert made.response_pages == made.prompt_pages == 3


@pytest.mark.parametrize(
  ('tokens', 'prompt', 'words'),
  [
    (63, 32, 'leaves 63 tokens to each lane; a response may have 40 .* so 64'),
    (95, 65, 'a prompt 65, so 96 are needed'),
    (1, 1, 'sampler.kv_tokens leaves 1 tokens'),
  ],
)
def test_room_for_none_is_refused(tokens, prompt, words):
  with pytest.raises(UserError, match=words):
    make(64, kv_tokens=tokens, max_prompt_tokens=prompt)
