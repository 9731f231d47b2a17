"""A sampler whose responses are written by hand."""

import contextlib

import numpy as np

from lrm_jax.sampler.samples import Samples, untruncated


class FakeSampler:
  """Stands for `Sampler` and for its session; `respond` says what it says."""

  def __init__(self, samples, max_tokens):
    self.samples, self.max_tokens = samples, max_tokens
    self.params = None
    self.batches = []

  @contextlib.contextmanager
  def open(self, params):
    self.params, self.batches = params, []
    yield self

  def add(self, session, prompt_ids, prompt_length, on_end, **options):
    assert session is self
    found = self.respond(prompt_ids, prompt_length, **options)
    for at in np.ndindex(found.length.shape):
      on_end(at, found.response_ids[at][: found.length[at]])
    self.batches.append(found)
    return len(self.batches) - 1

  def nothing(self, count) -> Samples:
    shape = count, self.samples
    room = *shape, self.max_tokens
    return untruncated(
      np.zeros(room, np.int32),
      np.zeros(room, np.float32),
      np.zeros(shape, np.int32),
      np.ones(shape, bool),
      np.zeros(shape, bool),
      np.zeros(shape, np.int32),
    )

  def wait(self, number):
    return self.batches[number]

  def respond(self, prompt_ids, prompt_length, **options):
    raise NotImplementedError
