"""Stored rollouts under any recipe: `lrm replay`."""
