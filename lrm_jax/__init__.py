"""lrm_jax: train large reasoning models to think in fewer tokens."""

__version__ = '0.1.0'
