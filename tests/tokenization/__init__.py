"""Tests of lrm_jax.tokenization."""
