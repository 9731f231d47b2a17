"""Tests of `lrm_jax/papers`."""
