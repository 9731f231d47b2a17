"""Scores and the evaluator."""
