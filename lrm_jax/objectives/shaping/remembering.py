"""Rewards that remember: records, multipliers, length statistics."""
