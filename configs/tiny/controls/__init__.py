"""Methods with one part changed, for the claims of experiments/objectives."""
