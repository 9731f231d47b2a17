"""Tokens, model FLOPs and their share of the peak, from chosen numbers."""

import types

import jax
import numpy as np
import pytest

from lrm_jax import chips, flops, packing, phases, throughput
from lrm_jax.models.config import Experts
from lrm_jax.models.lora import Lora
from tests.models import tiny


def test_utilization_by_hand():
  """3e15 FLOPs in 4 s on 8 devices, of a peak of 459e12: 20.4 %."""
  found = throughput.utilization(3e15, 4.0, devices=8, chip=chips.CHIPS['v5p'])
  rate = 3e15 / 32
  assert found == {
    'model_flops_per_second_per_device': rate,
    'mfu': rate / 459e12,
  }
  assert found['mfu'] == pytest.approx(0.2042, abs=1e-4)


def test_without_a_peak_there_is_no_mfu():
  found = throughput.utilization(6.0, 1.5, devices=2, chip=None)
  assert found == {'model_flops_per_second_per_device': 2.0}


@pytest.fixture
def peak(monkeypatch):
  """The devices of this process can do 100 FLOPs a second."""
  chip = chips.CHIPS['h200']._replace(flops=100.0)
  monkeypatch.setattr(chips, 'of_device', lambda device: chip)
  monkeypatch.setattr(jax, 'device_count', lambda: 2)


# Sampling takes 31 s, the update 64 + 128 s, credit 32 s beside it.
SECONDS = dict(zip(phases.NAMES, (1, 2, 4, 8, 16, 32, 64, 128), strict=True))


def make_batch():
  """Two groups of two, one of three kept; 510 tokens were sampled."""
  return types.SimpleNamespace(
    rollouts=types.SimpleNamespace(
      length=np.array([[10, 20], [30, 40]]), prompt_length=np.array([5, 6])
    ),
    keep=np.array([[True, True], [False, True]]),
    stats={'sampled_tokens': 510, 'model_flops_sample': 620},
  )


def test_a_step_by_hand(peak):
  found = throughput.of_step(
    make_batch(), SECONDS, {'model_flops_update': 3840.0}
  )
  assert found == {
    'sample_seconds': 31,
    'update_seconds': 224,
    'tokens_per_second_sample': 510 / 31,
    'tokens_per_second_update': (15 + 25 + 46) / 224,
    'tokens_per_second_per_device': 1.0,
    'model_flops_per_second_per_device_sample': 10,
    'mfu_sample': 0.1,
    'model_flops_per_second_per_device': 10,
    'mfu': 0.1,
  }


def test_a_step_without_an_update(peak):
  found = throughput.of_step(make_batch(), SECONDS, {})
  assert 'mfu_sample' in found
  assert not {'mfu', 'model_flops_per_second_per_device'} & set(found)


def test_a_summary_has_medians_and_the_last_goodput():
  rows = [
    {'mfu': 0.1, 'goodput': 0.2, 'tokens_per_second_sample': 5},
    {'mfu': 0.4, 'goodput': 0.3, 'tokens_per_second_sample': None},
    {'mfu': 0.5, 'goodput': 0.4},
  ]
  assert throughput.summarize(rows) == {
    'tokens_per_second': {'sample': 5, 'update': None},
    'model_flops_per_second_per_device': {'sample': None, 'update': None},
    'mfu': {'sample': None, 'update': 0.4},
    'goodput': 0.4,
  }
  assert throughput.summarize([])['goodput'] is None


# --- Rows ---


def make_rows(shared):
  """A prompt of 4 with responses of 3 and 2 tokens, in one row of two."""
  rows = packing.empty_rows(2, 16, shared=shared)
  if shared:
    packing.place(rows, 1, 0, 1, [7] * 3)
    packing.place(rows, 1, 3, 2, [7] * 4, prefix=(1, 3))
    packing.place(rows, 1, 7, 3, [7] * 3, prefix=(1, 3))
  else:
    packing.place(rows, 1, 0, 1, [7] * 7)
    packing.place(rows, 1, 7, 2, [7] * 6)
  return rows


def test_work_of_rows():
  model = tiny.make_config()
  alone = flops.update(model, [7, 6], logits=5)
  assert throughput.rows_work(model, make_rows(False), 5) == alone
  # Three tokens fewer, which would have seen 1 + 2 + 3 keys.
  less = flops.update(model, [3], logits=0)
  assert throughput.rows_work(model, make_rows(True), 5) == alone - less


def test_work_of_passes_beside_the_gradient():
  model = tiny.make_config(experts=Experts(count=4, used=2, width=6))
  rows, lora = make_rows(False), Lora(rank=2, alpha=4)
  work = throughput.rows_work(model, rows, 5, forwards=2)
  assert work == 5 * flops.forward(model, [7, 6], logits=5)
  more = throughput.rows_work(model, rows, 5, forwards=2, balances=True)
  assert more == work + flops.forward(model, [7, 6], logits=0)
  adapters = throughput.rows_work(model, rows, 5, lora=lora)
  assert adapters == flops.update(model, [7, 6], logits=5, lora=lora)
