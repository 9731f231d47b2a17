"""The objective of every method: which parts, and the paper's numbers.

Lengths are arguments, since they depend on the model. A part that is not
named is that of GRPO as verl computes it. `../lrm_jax/objectives/` has the
formulas with their sources; the configs say where each number comes from.
"""

from ml_collections import config_dict


def compose(**parts) -> config_dict.ConfigDict:
  """GRPO (arXiv 2402.03300) without KL, with `parts` in place of its own."""
  objective = dict(
    budget=dict(name='constant', cap=1),
    target=dict(name='no_target'),
    curriculum=dict(name='uniform'),
    measures=dict(),
    revision=dict(name='unrevised'),
    shaping=dict(outcome=dict()),
    selection=dict(name='all_groups'),
    oversampling=dict(name='no_oversampling'),
    advantage=dict(name='group', ddof=1, eps=1e-6),
    bonuses=dict(),
    loss=dict(name='ppo_clip', low=0.2, high=0.2),
    regularizers=dict(),
    aggregate=dict(name='sequence_mean'),
  )
  unknown = parts.keys() - objective.keys()
  if unknown:
    raise ValueError(f'no such part: {", ".join(sorted(unknown))}')
  return config_dict.create(**objective | parts)


def constant(cap):
  """A budget of `cap` response tokens."""
  return dict(name='constant', cap=cap)


def grpo(cap):
  """GRPO: group z-score, clip 0.2, k3 to the reference."""
  return compose(
    budget=constant(cap), regularizers=dict(kl_k3=dict(coefficient=0.04))
  )


def dler(cap):
  """DLER: truncation, dynamic sampling, batch-wise whitening, clip higher."""
  return compose(
    budget=constant(cap),
    shaping=dict(truncation=dict(stop_properly=0.0)),
    selection=dict(name='dynamic_sampling'),
    advantage=dict(name='batch_token_whiten', eps=1e-8),
    loss=dict(name='ppo_clip', low=0.2, high=0.28, dual=10.0),
    regularizers=dict(kl_k2=dict(coefficient=5e-4)),
    aggregate=dict(name='token_mean'),
  )
