"""Tests of `lrm_jax/planning`."""
