"""Tests of lrm_jax.models."""
