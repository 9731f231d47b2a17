"""The names of all parts. Adding a method: a function, and a line here."""

from lrm_jax.objectives import (
  advantages,
  aggregate,
  budgets,
  curricula,
  discriminative,
  losses,
  oversampling,
  regularizers,
  revisions,
  selection,
  targets,
)
from lrm_jax.objectives.shaping import capped

BUDGETS = {'constant': budgets.constant}
TARGETS = {'no_target': targets.no_target}
CURRICULA = {'uniform': curricula.uniform}
MEASURES = {}
REVISIONS = {'unrevised': revisions.unrevised}
SHAPING = {'outcome': capped.outcome, 'truncation': capped.truncation}
SELECTION = {
  'all_groups': selection.all_groups,
  'dynamic_sampling': selection.dynamic_sampling,
}
OVERSAMPLING = {'no_oversampling': oversampling.no_oversampling}
ADVANTAGES = {
  'batch_std': advantages.batch_std,
  'batch_token_whiten': advantages.batch_token_whiten,
  'batch_zscore': advantages.batch_zscore,
  'beta': advantages.beta,
  'class_share': advantages.class_share,
  'group': advantages.group,
  'group_mean': advantages.group_mean,
  'leave_one_out': advantages.leave_one_out,
  'leave_one_out_std': advantages.leave_one_out_std,
  'return_whiten': advantages.return_whiten,
}
BONUSES = {}
LOSSES = {
  'cispo': losses.cispo,
  'discriminative_likelihood': discriminative.discriminative_likelihood,
  'discriminative_ratio': discriminative.discriminative_ratio,
  'gspo': losses.gspo,
  'likelihood': losses.likelihood,
  'policy_ratio': losses.policy_ratio,
  'ppo_clip': losses.ppo_clip,
}
REGULARIZERS = {
  'entropy': regularizers.entropy,
  'kl_cov': regularizers.kl_cov,
  'kl_hinge': regularizers.kl_hinge,
  'kl_k1': regularizers.kl_k1,
  'kl_k2': regularizers.kl_k2,
  'kl_k3': regularizers.kl_k3,
}
AGGREGATES = {
  'fixed_length': aggregate.fixed_length,
  'group_mean': aggregate.group_mean,
  'sequence_mean': aggregate.sequence_mean,
  'sequence_sum': aggregate.sequence_sum,
  'token_mean': aggregate.token_mean,
}

# What parts remember at the start, by the name of the part.
MEMORIES = {}
# Which parts of a shaping look at the monitor's samples.
OBSERVERS = {}
# Which regularizers look at the whole mini-batch first.
PREPARERS = {
  'kl_cov': regularizers.kl_cov_focus,
  'kl_hinge': regularizers.kl_hinge_focus,
}
