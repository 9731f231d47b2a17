"""Tests of lrm_jax.evaluation."""
