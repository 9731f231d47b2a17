"""Log-probabilities and entropies in chunks: exact, and in little memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_jax.models import output_head
from tests.models import tiny

N, T = 3, 5


def dense(config, params, hidden, targets, temperature=1.0):
  scores = output_head.logits(config, params, hidden) / temperature
  law = jax.nn.log_softmax(scores, axis=-1)
  logp = jnp.take_along_axis(law, targets[..., None], axis=-1)[..., 0]
  return logp, -jnp.sum(jnp.exp(law) * law, axis=-1)


@functools.lru_cache
def make(tied=True):
  config = tiny.make_config(tie_embeddings=tied)
  generator = np.random.default_rng(5)
  hidden = generator.standard_normal((N, T, config.d_model))
  targets = generator.integers(0, config.vocab_size, (N, T))
  return (
    config,
    tiny.make_params(config),
    jnp.asarray(hidden, jnp.float32),
    jnp.asarray(targets),
  )


@pytest.mark.parametrize('temperature', [1.0, 0.6])
@pytest.mark.parametrize('chunk', [1, 4, 15, 1024])  # 4 does not divide 15
def test_values_are_dense(chunk, temperature):
  config, params, hidden, targets = make()
  found = jax.jit(
    lambda t: output_head.token_logp(
      config, params, hidden, targets, temperature=t, chunk=chunk
    )
  )(temperature)
  expected = dense(config, params, hidden, targets, temperature)
  for ours, theirs in zip(found, expected, strict=True):
    assert ours.shape == (N, T) and ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize('tied', [True, False])
def test_gradients_are_dense(tied):
  """Of both outputs, with respect to the head and the hidden states."""
  config, params, hidden, targets = make(tied)
  generator = np.random.default_rng(6)
  a, b = generator.standard_normal((2, N, T))

  def total(run, params, hidden):
    logp, entropy = run(config, params, hidden, targets, temperature=0.7)
    return jnp.sum(a * logp + b * entropy)

  gradient = lambda run: jax.jit(
    jax.grad(functools.partial(total, run), argnums=(0, 1))
  )(params, hidden)
  found = gradient(functools.partial(output_head.token_logp, chunk=4))
  expected = gradient(dense)
  head = 'embedding' if tied else 'head'
  assert float(jnp.abs(expected[0][head]).max()) > 0.1
  for ours, theirs in (
    (found[0][head], expected[0][head]),
    (found[1], expected[1]),
  ):
    scale = float(jnp.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale)


def test_literals():
  """Logits (0, ln 3): probabilities 1/4 and 3/4."""
  config = tiny.make_config(vocab_size=2, d_model=2)
  params = {'embedding': jnp.array([[0.0, 5.0], [np.log(3), 5.0]])}
  hidden = jnp.array([[1.0, 0.0]] * 2)
  logp, entropy = output_head.token_logp(
    config, params, hidden, jnp.array([0, 1])
  )
  np.testing.assert_allclose(logp, np.log([0.25, 0.75]), rtol=1e-6)
  expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
  np.testing.assert_allclose(entropy, [expected] * 2, rtol=1e-6)


def test_a_certain_token_is_finite():
  """Logits of +-1e4: log-probability 0 or -2e4, entropy 0, no NaN."""
  config = tiny.make_config(vocab_size=2, d_model=1)
  params = {'embedding': jnp.array([[1e4], [-1e4]])}

  def total(hidden):
    logp, entropy = output_head.token_logp(
      config, params, hidden, jnp.array([0, 1])
    )
    return jnp.sum(logp + entropy), (logp, entropy)

  gradient, (logp, entropy) = jax.grad(total, has_aux=True)(jnp.ones((2, 1)))
  np.testing.assert_allclose(logp, [0.0, -2e4])
  np.testing.assert_allclose(entropy, [0.0, 0.0], atol=1e-2)
  assert jnp.isfinite(gradient).all()


def test_no_array_of_tokens_by_vocabulary():
  """At V = 152,000 the gradient needs a fraction of the logits' memory."""
  tokens, vocab = 2048, 152_000
  config = tiny.make_config(vocab_size=vocab, d_model=64)
  table = jax.ShapeDtypeStruct((vocab, 64), jnp.float32)
  hidden = jax.ShapeDtypeStruct((2, tokens // 2, 64), jnp.float32)
  targets = jax.ShapeDtypeStruct((2, tokens // 2), jnp.int32)

  def temporaries(run):
    def total(table, hidden, targets):
      logp, entropy = run(config, {'embedding': table}, hidden, targets)
      return jnp.sum(logp + entropy)

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    compiled = gradient.lower(table, hidden, targets).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  whole = tokens * vocab * 4
  chunked = functools.partial(output_head.token_logp, chunk=128)
  assert temporaries(chunked) < whole / 2
  assert temporaries(dense) > whole  # so the number measures what it should
