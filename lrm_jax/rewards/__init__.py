"""Verifiers: response and gold answer to a verdict."""
