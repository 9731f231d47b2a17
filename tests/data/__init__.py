"""Tests of lrm_jax.data."""
