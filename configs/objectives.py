"""The objectives of the baselines; `efficient.py` has those that shorten.

A function per method: which parts, and the numbers of its paper. What depends
on the model, lengths above all, is an argument. `lrm_jax/objectives/` has every
formula with its source.

A part that is not named is that of GRPO in its paper, with the deviation as
verl takes it; where a paper's code could not be read, denominator and KL
estimator are so ours. Later versions of verl also clip negative advantages a
second time, at 3 by default: a number that a script states is stated here, the
default is left out, and one update per batch never gets there.
"""

from ml_collections import config_dict


def compose(**parts) -> config_dict.ConfigDict:
  """GRPO without KL, with `parts` in place of its own."""
  objective = dict(
    budget=dict(name='constant', cap=1),
    target=dict(name='no_target'),
    curriculum=dict(name='uniform'),
    measures=dict(),
    revision=dict(name='unrevised'),
    shaping=dict(outcome=dict()),
    selection=dict(name='all_groups'),
    oversampling=dict(name='no_oversampling'),
    demonstration=dict(name='undemonstrated'),
    advantage=dict(name='group', ddof=1, eps=1e-6),
    bonuses=dict(),
    credit=dict(name='as_it_is'),
    correction=dict(name='uncorrected'),
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


def k3(coefficient):
  """The k3 estimate of the KL to the reference, as a loss term."""
  return dict(kl_k3=dict(coefficient=coefficient))


def grpo(cap):
  """GRPO (2402.03300): group z-score, clip 0.2, beta 0.04 (from memory)."""
  return compose(budget=constant(cap), regularizers=k3(0.04))


def dr_grpo(cap):
  """Dr. GRPO (2503.20783): no deviation, a constant denominator, no KL."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='group_mean'),
    aggregate=dict(name='fixed_length', length=cap),
  )


def dapo(cap, buffer):
  """DAPO (2503.14476): clip higher, dynamic sampling, soft overlong, +-1."""
  return compose(
    budget=constant(cap),
    shaping=dict(
      outcome=dict(right=1.0, wrong=-1.0),
      overlong=dict(buffer=buffer, factor=1.0),
    ),
    selection=dict(name='dynamic_sampling_accuracy'),
    loss=dict(name='ppo_clip', low=0.2, high=0.28, dual=10.0),
    aggregate=dict(name='token_mean'),
  )


def reinforce_pp(cap):
  """REINFORCE++ (2501.03262): returns, whitened over all tokens."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='return_whiten', gamma=1.0, eps=1e-8),
    aggregate=dict(name='token_mean'),
  )


def reinforce_pp_baseline(cap):
  """REINFORCE++-baseline: the group mean first, then whitened over tokens."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='batch_token_whiten', eps=1e-8),
    aggregate=dict(name='token_mean'),
  )


def rloo(cap):
  """RLOO (2402.14740): the others of the group are the baseline."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='leave_one_out'),
    aggregate=dict(name='token_mean'),
  )


def bnpo(cap):
  """BNPO (2506.02864): a Beta law fitted to the pass rates normalizes."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='beta'),
    loss=dict(name='ppo_clip', low=0.2, high=0.28, dual=10.0),
    aggregate=dict(name='sequence_sum'),
  )


def gspo(cap):
  """GSPO (2507.18071): the ratio of the sequence, clipped very tightly."""
  return compose(
    budget=constant(cap), loss=dict(name='gspo', low=3e-4, high=4e-4)
  )


def cispo(cap):
  """CISPO (2506.13585) as verl computes it: both bounds around 1."""
  return compose(
    budget=constant(cap),
    loss=dict(name='cispo', lower=0.8, upper=1.2),
    aggregate=dict(name='token_mean'),
  )


def cispo_trl(cap):
  """CISPO as TRL computes it: `epsilon_high` is the bound itself."""
  return compose(
    budget=constant(cap),
    loss=dict(name='cispo', lower=0.0, upper=5.0),
    aggregate=dict(name='token_mean'),
  )


def llds(cap, kl=0.001, tolerance=0.0):
  """GRPO with LLDS (2512.04220): good responses keep their likelihood."""
  return compose(
    budget=constant(cap),
    regularizers=k3(kl)
    | dict(
      llds=dict(coefficient=0.2, tolerance=tolerance, aggregate='token_mean')
    ),
  )


def llds_ma(cap, kl=0.001, tolerance=0.0):
  """GRPO with LLDS-MA (2512.04220): less so for their answers."""
  return compose(
    budget=constant(cap),
    regularizers=k3(kl)
    | dict(
      llds_ma=dict(
        coefficient=0.2,
        answer_weight=0.2,
        tolerance=tolerance,
        aggregate='token_mean',
      )
    ),
  )


def light_if(cap, scale=10.0, most=5.0):
  """TEA-RL of Light-IF (2508.03178): an entropy bonus by covariance."""
  return compose(
    budget=constant(cap),
    loss=dict(name='ppo_clip', low=1.0, high=1.0, dual=10.0),
    regularizers=k3(0.001)
    | dict(
      adaptive_entropy=dict(
        coefficient=1.0, scale=scale, most=most, aggregate='token_mean'
      )
    ),
    aggregate=dict(name='token_mean'),
  )


def disco(cap):
  """DisCO (2505.12366), log-L: right above wrong, in log-likelihood."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='class_share'),
    loss=dict(name='discriminative_likelihood', temperature=10.0),
    regularizers=hinge(),
    aggregate=dict(name='question_mean'),
  )


def disco_ratio(cap):
  """DisCO, L-ratio: right above wrong, in probability ratios."""
  return compose(
    budget=constant(cap),
    advantage=dict(name='class_share'),
    loss=dict(name='discriminative_ratio', temperature=1.0),
    regularizers=hinge(),
    aggregate=dict(name='question_mean'),
  )


def levels(cap, first, last, steps):
  """GRPO on levels that grow harder; the schedule is ours."""
  return compose(
    budget=constant(cap),
    curriculum=dict(name='levels', first=first, last=last, steps=steps),
  )


def dump(cap, by='level'):
  """DUMP (2504.09710): distributions of large advantages, by their bound."""
  return compose(
    budget=constant(cap),
    curriculum=dict(name='dump', by=by, window=300, temperature=0.1),
    regularizers=k3(0.001),
  )


def pcl(cap, learning_rate):
  """PCL (2510.01135): problems that a value head takes for half solved."""
  return compose(
    budget=constant(cap),
    curriculum=dict(name='pcl', factor=4, learning_rate=learning_rate),
    advantage=dict(name='group_mean'),
    aggregate=dict(name='token_mean'),
  )


def gvm(cap):
  """GVM-GRPO (2505.02391): responses where they lower the variance."""
  return compose(
    budget=constant(cap),
    curriculum=dict(name='gvm', probes=8, samples=8, alpha=1e-3, beta=2.0),
    loss=dict(name='ppo_clip', low=0.2, high=0.3),
    regularizers=k3(0.001),
  )


def hinge():
  """DisCO's and DRPO's constraint KL(old || new) <= 1e-4, as a penalty."""
  return dict(
    kl_hinge=dict(coefficient=1.0, beta=1e3, delta=1e-4, aggregate='token_mean')
  )
