"""Tests of lrm_jax.commands."""
