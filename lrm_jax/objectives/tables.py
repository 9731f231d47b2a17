"""The names of all parts. Adding a method: a function, and a line here."""

from lrm_jax.objectives import (
  advantages,
  aggregate,
  bonuses,
  budgets,
  curricula,
  losses,
  measures,
  oversampling,
  regularizers,
  revisions,
  selection,
  targets,
)
from lrm_jax.objectives.shaping import capped, relative, remembering

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
  'batch_token_whiten': advantages.batch_token_whiten,
  'group': advantages.group,
  'group_mean': advantages.group_mean,
}
BONUSES = {}
LOSSES = {'ppo_clip': losses.ppo_clip}
REGULARIZERS = {
  'entropy': regularizers.entropy,
  'kl_k1': regularizers.kl_k1,
  'kl_k2': regularizers.kl_k2,
  'kl_k3': regularizers.kl_k3,
}
AGGREGATES = {
  'fixed_length': aggregate.fixed_length,
  'sequence_mean': aggregate.sequence_mean,
  'sequence_sum': aggregate.sequence_sum,
  'token_mean': aggregate.token_mean,
}

# What parts remember at the start, by the name of the part.
MEMORIES = {}
# Which parts of a shaping look at the monitor's samples.
OBSERVERS = {}
# Which regularizers look at the whole mini-batch first.
PREPARERS = {}
