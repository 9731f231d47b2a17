"""The objectives that shorten, built like those of `objectives.py`.

Numbers that a paper does not give are arguments; the configs say whose they
are.
"""

from configs.objectives import compose, constant, hinge, k3

CLIP_HIGHER = dict(name='ppo_clip', low=0.2, high=0.28)
# TRL's group deviation.
TRL_GROUP = dict(name='group', ddof=1, eps=1e-4)


def _early_verl(kl=0.001):
  """What verl did until early 2025, as in the code of L1 and Laser.

  A mean over tokens (there of each micro-batch, which depends on how a batch
  is cut; here of the whole mini-batch), one clip, and an entropy bonus unless
  a script turns it off.
  """
  return dict(
    regularizers=k3(kl) | dict(entropy=dict(coefficient=0.001)),
    aggregate=dict(name='token_mean'),
  )


def dler(cap):
  """DLER (2510.15110): truncation, dynamic sampling, batch-wise whitening."""
  return compose(**_dler(cap))


def da_dler(cap, easy_cap):
  """DA-DLER: a tighter cap for groups that are right more than half."""
  shaping = dict(difficulty_truncation=dict(easy_cap=easy_cap, threshold=0.5))
  return compose(**_dler(cap) | dict(shaping=shaping))


def _dler(cap):
  return dict(
    budget=constant(cap),
    shaping=dict(truncation=dict(stop_properly=0.0)),
    selection=dict(name='dynamic_sampling'),
    advantage=dict(name='batch_token_whiten', eps=1e-8),
    loss=dict(**CLIP_HIGHER, dual=10.0),
    regularizers=dict(kl_k2=dict(coefficient=5e-4)),
    aggregate=dict(name='token_mean'),
  )


def drpo(cap, temperature=0.1):
  """DRPO (2510.04474): length decides among the right ones only."""
  return compose(
    budget=constant(cap),
    shaping=dict(decoupled_length=dict(temperature=temperature)),
    advantage=dict(name='class_share'),
    loss=dict(name='discriminative_likelihood', temperature=10.0),
    regularizers=hinge(),
    aggregate=dict(name='question_mean'),
  )


def grpo_lambda(cap, fraction=0.2, alpha=0.6):
  """GRPO-lambda (2505.18086): a length reward for the best groups only."""
  return compose(
    budget=constant(cap),
    shaping=dict(group_lambda=dict(fraction=fraction, alpha=alpha)),
  )


def siri(low, high, period, schedule='siri_cosine'):
  """SIRI (2509.25176): the cap breathes between `low` and `high`."""
  return compose(
    budget=dict(name=schedule, low=low, high=high, period=period),
    loss=dict(CLIP_HIGHER),
  )


def tldr(cap, short, medium, long):
  """TLDR (2505.07961), reconstructed: a penalty by the level asked for."""
  return compose(
    budget=constant(cap),
    target=dict(name='level_target', count=3),
    shaping=dict(tldr=dict(short=short, medium=medium, long=long)),
  )


def conciseness(cap, alpha, anneal_from, anneal_steps):
  """The conciseness reward (2511.09158), with a scorer that is no model."""
  return compose(
    budget=constant(cap),
    measures=dict(compressibility=dict()),
    shaping=dict(
      conciseness=dict(
        score='compressibility',
        alpha=alpha,
        anneal_from=anneal_from,
        anneal_steps=anneal_steps,
      )
    ),
  )


def dot(cap, deviations=3.0, margin=32):
  """DOT (2601.03969): cuts outliers of solved groups; KL-cov loss."""
  return compose(
    budget=constant(cap),
    revision=dict(
      name='outlier_truncation', deviations=deviations, margin=margin
    ),
    selection=dict(name='dynamic_sampling'),
    oversampling=dict(name='predictive'),
    loss=dict(name='policy_ratio'),
    regularizers=dict(kl_cov=dict(coefficient=1.0, fraction=0.002)),
  )


def hapo(cap):
  """HAPO (2505.11225): rewards a new record of the problem."""
  return compose(
    budget=constant(cap),
    shaping=dict(outcome=dict(), hapo=dict(weight=1.0)),
    advantage=dict(TRL_GROUP),
    regularizers=k3(0.04),  # TRL's default then, from memory
  )


def hapo_linear(cap):
  """HAPO with its linear length reward."""
  return compose(
    budget=constant(cap),
    shaping=dict(outcome=dict(), hapo_linear=dict(weight=1.0)),
    advantage=dict(TRL_GROUP),
    regularizers=k3(0.04),  # as above
  )


def adaptive_penalty(cap, initial, rate, reference):
  """A-DLP (2505.18298): the penalty grows while accuracy exceeds a mark."""
  return compose(
    budget=constant(cap),
    shaping=dict(
      outcome=dict(),
      adaptive_penalty=dict(initial=initial, rate=rate, reference=reference),
    ),
    regularizers=k3(0.001),  # released code
  )


def frugal(cap, lower, upper, factor):
  """Frugal reasoning (2511.01937): more easy problems, no length reward."""
  return compose(
    budget=constant(cap),
    curriculum=dict(
      name='easy_upweight', lower=lower, upper=upper, factor=factor
    ),
    loss=dict(CLIP_HIGHER),
  )


def step_pruner(cap, alpha, separator='\n\n'):
  """Step Pruner (2510.03805), reconstructed: fewer steps among the right."""
  return compose(
    budget=constant(cap),
    measures=dict(
      paragraphs=dict(separator=separator),
      # To watch: the paper stops training by it.
      longest_paragraph=dict(separator=separator),
    ),
    shaping=dict(step_pruner=dict(alpha=alpha)),
  )


def cosine(cap, n=40, margin=16):
  """Cosine reward and repetition stream (2502.03373), group-relative."""
  return compose(
    budget=constant(cap),
    shaping=dict(cosine=dict(margin=margin)),
    bonuses=dict(repetition=dict(n=n, penalty=-0.05, discount=0.99)),
    regularizers=k3(0.01),  # the paper's 0.01, with PPO; the estimator is ours
  )


def format_length(cap):
  """Format and length (2505.19439): no gold answer is looked at."""
  return compose(
    budget=constant(cap), shaping=dict(format_length=dict(turning_point=0.5))
  )


def l1(cap, low, high, alpha=3e-4):
  """L1-Exact (2503.04697): as long as the prompt asks for."""
  return compose(
    budget=constant(cap),
    target=dict(name='uniform_target', low=low, high=high),
    shaping=dict(outcome=dict(), l1_exact=dict(alpha=alpha)),
    **_early_verl(),
  )


def l1_max(cap, low, high, alpha=3e-4):
  """L1-Max: at most as long as the prompt asks for."""
  return compose(
    budget=constant(cap),
    target=dict(name='uniform_target', low=low, high=high),
    shaping=dict(l1_max=dict(alpha=alpha)),
    **_early_verl(),
  )


def alp(cap, beta):
  """ALP (2506.05256): a penalty in proportion to the pass rate."""
  return compose(
    budget=constant(cap), shaping=dict(outcome=dict(), alp=dict(beta=beta))
  )


def kimi(cap, coefficient=0.4):
  """The length reward of Kimi k1.5 (2501.12599), with GRPO."""
  return compose(
    budget=constant(cap),
    shaping=dict(outcome=dict(), kimi=dict(coefficient=coefficient)),
  )


def arora_zanette(cap, alpha):
  """RLOO with a sigmoid of the length (2502.04463); a mean per response.

  The denominator is ours; verl's RLOO, in `objectives.py`, takes a mean over
  tokens.
  """
  return compose(
    budget=constant(cap),
    shaping=dict(sigmoid_length=dict(alpha=alpha)),
    advantage=dict(name='leave_one_out'),
    regularizers=k3(0.001),  # paper; the estimator is ours
  )


def shorter_better(cap, beta=0.001, kl=0.001):
  """ShorterBetter (2504.21370): as long as the shortest right response."""
  return compose(
    budget=constant(cap),
    shaping=dict(shorter_better=dict(alpha=2.0, beta=beta)),
    **_early_verl(kl),
  )


def laser(cap, target_length):
  """Laser (2505.15612): a bonus within one target length."""
  return _laser(cap, dict(laser=dict(target_length=target_length)))


def laser_d(cap, lower, upper, step):
  """Laser-D: the target length follows difficulty and progress."""
  return _laser(cap, dict(laser_d=dict(lower=lower, upper=upper, step=step)))


def laser_de(cap, lower, upper, step, ngram, threshold):
  """Laser-DE: wrong answers may explore beyond it, if they do not repeat."""
  keys = dict(
    lower=lower, upper=upper, step=step, ngram=ngram, threshold=threshold
  )
  return _laser(cap, dict(laser_de=keys))


def _laser(cap, shaping):
  return compose(
    budget=constant(cap),
    shaping=shaping,
    loss=dict(CLIP_HIGHER),
    **_early_verl(),
  )


def think_prune(caps, lengths):
  """ThinkPrune (2504.01296): a cap, stated in the prompt, that steps down."""
  return compose(
    budget=dict(name='stages', caps=caps, lengths=lengths),
    target=dict(name='cap_target'),
    regularizers=k3(0.001),  # paper; the denominator is ours
  )


def rmt(initial, gamma, steps, room, weight, least=1):
  """RMT (2509.24375): prompts ask for fewer thinking tokens step by step."""
  asked = dict(times=2, room=room)
  return compose(
    budget=dict(
      name='geometric',
      initial=initial,
      least=least,
      gamma=gamma,
      steps=steps,
      **asked,
    ),
    target=dict(name='share_of_cap', **asked),
    shaping=dict(
      outcome=dict(right=1.0 - weight), triangular=dict(peak=weight)
    ),
  )


def o1_pruner(cap):
  """O1-Pruner's weights (2501.12570), on responses of the policy itself."""
  return compose(
    budget=constant(cap),
    shaping=dict(o1_pruner=dict(alpha=5.0)),
    advantage=dict(name='batch_zscore', ddof=1, eps=1e-8),
    loss=dict(name='likelihood'),
    aggregate=dict(name='token_mean'),
  )


def lc_r1(cap, separator):
  """LC-R1 (2506.14755): thinking is cut behind the answer's first place."""
  return compose(
    budget=constant(cap),
    measures=dict(answer_prefix=dict(separator=separator)),
    revision=dict(name='compress_thinking'),
    shaping=dict(outcome=dict(), valid_format=dict(), relative_length=dict()),
    advantage=dict(name='group_mean'),
    bonuses=dict(close_thinking=dict()),
    regularizers=k3(0.04),  # paper
    aggregate=dict(name='token_mean'),
  )
