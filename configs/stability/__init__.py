"""Ways to hold a policy that off-policy updates break."""
