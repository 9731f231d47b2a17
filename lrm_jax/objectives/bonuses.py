"""Bonuses: advantages of single tokens, beside that of the response.

`f(rollouts, mask [B, G, T], **keywords) -> [B, G, T]` float32, added to the
advantage after its normalisation, 0 outside the mask.
"""
