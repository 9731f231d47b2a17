"""The transformer; the only place that knows Flax Linen."""
