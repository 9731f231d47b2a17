"""Tests of lrm_jax.checkpoints."""
