"""Shaping: what a response earns.

`f(rollouts, **keywords) -> reward [B, G]` float32, or, for a part that
remembers, `f(rollouts, memory, **keywords) -> (reward, memory)`. A recipe adds
the rewards of its list. Some parts are a whole reward, others a term to be
added to `outcome`; each docstring says which, and what wrong and truncated
responses get.
"""
