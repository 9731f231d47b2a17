"""Rewards, module by module."""
