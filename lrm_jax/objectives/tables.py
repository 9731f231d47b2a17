"""The names of all parts. Adding a method: a function, and a line here."""

from lrm_jax.objectives import (
  advantages,
  aggregate,
  allocation,
  bonuses,
  budgets,
  conflicts,
  corrections,
  credit,
  curricula,
  demonstrations,
  discriminative,
  learned_curricula,
  losses,
  measures,
  oversampling,
  regularizers,
  revisions,
  selection,
  targets,
  whitening,
)
from lrm_jax.objectives.shaping import capped, relative, remembering

BUDGETS = {
  'constant': budgets.constant,
  'geometric': budgets.geometric,
  'siri_cosine': budgets.siri_cosine,
  'siri_stair': budgets.siri_stair,
  'siri_stair_cosine': budgets.siri_stair_cosine,
  'stages': budgets.stages,
}
TARGETS = {
  'cap_target': targets.cap_target,
  'level_target': targets.level_target,
  'no_target': targets.no_target,
  'share_of_cap': targets.share_of_cap,
  'uniform_target': targets.uniform_target,
}
CURRICULA = {
  'dump': learned_curricula.dump,
  'easy_upweight': curricula.easy_upweight,
  'gvm': allocation.gvm,
  'levels': curricula.levels,
  'pcl': learned_curricula.pcl,
  'uniform': curricula.uniform,
}
MEASURES = {
  'answer_class': measures.answer_class,
  'answer_prefix': measures.answer_prefix,
  'compressibility': measures.compressibility,
  'longest_paragraph': measures.longest_paragraph,
  'paragraphs': measures.paragraphs,
}
REVISIONS = {
  'compress_thinking': revisions.compress_thinking,
  'outlier_truncation': revisions.outlier_truncation,
  'unrevised': revisions.unrevised,
}
SHAPING = {
  'adaptive_penalty': remembering.adaptive_penalty,
  'alp': relative.alp,
  'conciseness': relative.conciseness,
  'cosine': capped.cosine,
  'decoupled_length': relative.decoupled_length,
  'difficulty_truncation': capped.difficulty_truncation,
  'format_length': capped.format_length,
  'group_lambda': relative.group_lambda,
  'hapo': remembering.hapo,
  'hapo_linear': remembering.hapo_linear,
  'kimi': relative.kimi,
  'l1_exact': capped.l1_exact,
  'l1_max': capped.l1_max,
  'laser': remembering.laser,
  'laser_d': remembering.laser_d,
  'laser_de': remembering.laser_de,
  'o1_pruner': relative.o1_pruner,
  'outcome': capped.outcome,
  'overlong': capped.overlong,
  'relative_length': relative.relative_length,
  'shorter_better': relative.shorter_better,
  'sigmoid_length': relative.sigmoid_length,
  'step_pruner': relative.step_pruner,
  'tldr': capped.tldr,
  'triangular': capped.triangular,
  'truncation': capped.truncation,
  'valid_format': capped.valid_format,
}
SELECTION = {
  'all_groups': selection.all_groups,
  'dynamic_sampling': selection.dynamic_sampling,
  'dynamic_sampling_accuracy': selection.dynamic_sampling_accuracy,
}
OVERSAMPLING = {
  'no_oversampling': oversampling.no_oversampling,
  'predictive': oversampling.predictive,
}
DEMONSTRATIONS = {
  'gate': demonstrations.gate,
  'undemonstrated': demonstrations.undemonstrated,
}
ADVANTAGES = {
  'batch_std': advantages.batch_std,
  'batch_token_whiten': whitening.batch_token_whiten,
  'batch_zscore': advantages.batch_zscore,
  'beta': advantages.beta,
  'class_share': advantages.class_share,
  'group': advantages.group,
  'group_mean': advantages.group_mean,
  'leave_one_out': advantages.leave_one_out,
  'leave_one_out_std': advantages.leave_one_out_std,
  'return_whiten': whitening.return_whiten,
}
BONUSES = {
  'close_thinking': bonuses.close_thinking,
  'repetition': bonuses.repetition,
}
CREDIT = {
  'as_it_is': credit.as_it_is,
  'copo': credit.copo,
  'd3s': credit.d3s,
  'gtpo': conflicts.gtpo,
  'gtpo_released': conflicts.gtpo_released,
  'stratified': credit.stratified,
}
CORRECTIONS = {
  'sequence_masked': corrections.sequence_masked,
  'sequence_truncated': corrections.sequence_truncated,
  'token_masked': corrections.token_masked,
  'token_truncated': corrections.token_truncated,
  'uncorrected': corrections.uncorrected,
}
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
  'adaptive_entropy': regularizers.adaptive_entropy,
  'entropy': regularizers.entropy,
  'kl_cov': regularizers.kl_cov,
  'kl_hinge': regularizers.kl_hinge,
  'kl_k1': regularizers.kl_k1,
  'kl_k2': regularizers.kl_k2,
  'kl_k3': regularizers.kl_k3,
  'llds': regularizers.llds,
  'llds_ma': regularizers.llds_ma,
}
AGGREGATES = {
  'fixed_length': aggregate.fixed_length,
  'question_mean': aggregate.question_mean,
  'question_sum': aggregate.question_sum,
  'sequence_mean': aggregate.sequence_mean,
  'sequence_sum': aggregate.sequence_sum,
  'token_mean': aggregate.token_mean,
}

# The tables of a recipe's parts, in the order in which they act.
PARTS = {
  'budget': BUDGETS,
  'target': TARGETS,
  'curriculum': CURRICULA,
  'measures': MEASURES,
  'revision': REVISIONS,
  'shaping': SHAPING,
  'selection': SELECTION,
  'oversampling': OVERSAMPLING,
  'demonstration': DEMONSTRATIONS,
  'advantage': ADVANTAGES,
  'bonuses': BONUSES,
  'credit': CREDIT,
  'correction': CORRECTIONS,
  'loss': LOSSES,
  'regularizers': REGULARIZERS,
  'aggregate': AGGREGATES,
}

# What parts remember at the start, by the name of the part.
MEMORIES = {
  'adaptive_penalty': remembering.adaptive_penalty_start,
  'hapo': remembering.hapo_start,
  'hapo_linear': remembering.hapo_start,
  'laser_d': remembering.laser_d_start,
  'laser_de': remembering.laser_d_start,
  'predictive': oversampling.predictive_start,
}
# Which parts of a shaping look at the monitor's samples.
OBSERVERS = {
  'laser_d': remembering.laser_d_observe,
  'laser_de': remembering.laser_d_observe,
}
# Which regularizers look at the whole mini-batch first.
PREPARERS = {
  'adaptive_entropy': regularizers.adaptive_entropy_focus,
  'kl_cov': regularizers.kl_cov_focus,
  'kl_hinge': regularizers.kl_hinge_focus,
}
# Which credits read the entropies of the policy before the step.
BY_ENTROPY = (credit.d3s, conflicts.gtpo, conflicts.gtpo_released)
# Which credits give two advantages.
IN_TWO = (credit.copo,)
