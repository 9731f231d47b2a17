"""Ways to choose problems, for one objective; see experiments/curricula."""
