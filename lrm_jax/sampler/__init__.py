"""Prompts to responses, on the device."""
