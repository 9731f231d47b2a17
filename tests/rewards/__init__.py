"""Tests of lrm_jax.rewards."""
