"""The objectives: literals, loops in float64, gradients, degenerate inputs."""
