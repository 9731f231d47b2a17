"""The objectives that choose which tokens get credit, and how much.

Built like those of `objectives.py`.
"""

from configs.objectives import compose, constant, k3


def gtpo(cap, entropy_limit, reward=20.0):
  """GTPO (2508.03772), as in its text: conflicts, and an entropy filter.

  The reward is 10 for the answer and 10 for the format there; without a format
  both go to the answer.
  """
  return _gtpo('gtpo', cap, entropy_limit, reward)


def gtpo_released(cap, entropy_limit=0.7, reward=20.0):
  """GTPO as in its code: over the conflict tokens, filtered always."""
  return _gtpo('gtpo_released', cap, entropy_limit, reward)


def _gtpo(name, cap, entropy_limit, reward):
  return compose(
    budget=constant(cap),
    shaping=dict(outcome=dict(right=reward)),
    advantage=dict(name='group_mean'),
    credit=dict(name=name, entropy_limit=entropy_limit, entropy_scale=0.1),
  )


def copo(cap, sharpness, middle, kl=0.001):
  """COPO (2508.04138): groups that agree compare with other groups."""
  return compose(
    budget=constant(cap),
    measures=dict(answer_class=dict()),
    credit=dict(
      name='copo', sharpness=sharpness, middle=middle, consistency=1.0
    ),
    regularizers=k3(kl),
  )


def d3s(cap, rollouts, tokens, steps):
  """D3S (2509.22115): the most different responses, their best tokens.

  Args:
    cap: of a response.
    rollouts: first and last share of the responses.
    tokens: first and last share of their tokens.
    steps: from the first to the last.
  """
  return compose(
    budget=constant(cap),
    credit=dict(
      name='d3s',
      rollouts_first=rollouts[0],
      rollouts_last=rollouts[1],
      tokens_first=tokens[0],
      tokens_last=tokens[1],
      steps=steps,
    ),
  )


def stratified(cap, separator, width, share):
  """Stratified GRPO (2510.06214): compared with what is built alike."""
  return compose(
    budget=constant(cap),
    measures=dict(paragraphs=dict(separator=separator)),
    credit=dict(
      name='stratified', measure='paragraphs', width=width, share=share
    ),
  )


def corrected(cap, correction):
  """GRPO without KL on samples of another policy, weighed by importance.

  Args:
    cap: of a response.
    correction: a section of `lrm_jax/objectives/corrections.py`.
  """
  return compose(budget=constant(cap), correction=correction)


def hpt(cap, solved, coefficient):
  """HPT (2509.04419): a group that is not solved learns a demonstration."""
  return compose(
    budget=constant(cap),
    demonstration=dict(name='gate', solved=solved, coefficient=coefficient),
    advantage=dict(name='group_mean'),
    loss=dict(name='likelihood'),
    regularizers=dict(entropy=dict(coefficient=0.001)),
    aggregate=dict(name='question_sum'),
  )
