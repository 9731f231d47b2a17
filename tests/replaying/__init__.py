"""Tests of `lrm_jax/replaying`."""
