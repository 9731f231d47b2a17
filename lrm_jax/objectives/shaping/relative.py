"""Rewards that compare the lengths of a group's responses."""
