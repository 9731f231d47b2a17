"""Tests of lrm_jax.reporting."""
