"""Configs: `default.py` has every key; the others change a few."""
