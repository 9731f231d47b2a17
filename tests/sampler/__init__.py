"""Tests of lrm_jax.sampler."""
