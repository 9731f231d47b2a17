"""GRPO as each framework computes it by default.

  from configs import conventions
  conventions.apply(config, conventions.trl())

The same name, and other numbers. For rewards (1, 0, 0, 0, 0, 0, 0, 0) the
advantages are

    trl                  2.474  -0.353
    verl, tunix          2.475  -0.354
    openrlhf             2.475  -0.354
    nemo                 1.000  -0.378

and where rewards differ by a length term alone, `eps` decides: eight right
answers 1e-5 apart have a top advantage of 1.43 in openrlhf, 1.37 in verl and
tunix, and 0.28 in trl. Losses differ by denominator, divergence and dual clip.

Each function gives the parts that a framework settles, as plain dicts. The
rest of the recipe (cap, reward, selection) is the config's own. A comment
names the file, and where a default comes from. "Read" is the released source
of the version given; trl and tunix are also run, and the tests compare.
Corrections for a sampler that disagrees with the trainer are not part of this.
"""

import ml_collections


def apply(config: ml_collections.ConfigDict, convention: dict) -> None:
  """Puts the parts of a convention in place of those of `config.objective`.

  Whole parts: `ConfigDict.update` would merge them, and leave the keys of the
  old part beside the name of the new one. The lock stays as it was.
  """
  unknown = convention.keys() - config.objective.keys()
  if unknown:
    raise ValueError(f'no such part: {", ".join(sorted(unknown))}')
  with config.unlocked():
    for part, section in convention.items():
      config.objective[part] = ml_collections.ConfigDict(section)


def trl() -> dict:
  """TRL 1.16.0, read and run: `GRPOTrainer` with all defaults.

  Two things to know beyond them. With a `beta` it multiplies k3 by the ratio to
  the old policy (`use_bias_correction_kl`, on by default), which no part here
  does. And its `loss_type='grpo'` counts responses without trained tokens in
  the mean; `sequence_mean` does not.
  """
  return dict(
    # trl/trainer/grpo_trainer.py, _generate_and_score_completions:
    # scale_rewards 'group'; nanstd divides by n - 1; 1e-4 is in the line.
    advantage=dict(name='group', ddof=1, eps=1e-4),
    # trl/trainer/grpo_config.py: epsilon 0.2, epsilon_high and delta None.
    loss=dict(name='ppo_clip', low=0.2, high=0.2),
    # trl/trainer/grpo_config.py: beta 0.0, so no reference; entropy_coef 0.0.
    regularizers=dict(),
    # trl/trainer/grpo_config.py: loss_type 'dapo', the tokens of the batch.
    aggregate=dict(name='token_mean'),
  )


def trl_batch() -> dict:
  """TRL with `scale_rewards='batch'`: one deviation for the whole batch."""
  # trl/trainer/grpo_trainer.py: nanstd of all rewards; 1e-4 as for groups.
  return trl() | dict(advantage=dict(name='batch_std', ddof=1, eps=1e-4))


def verl() -> dict:
  """Verl 0.9.1, read; `algorithm.adv_estimator=grpo`, which is not its default.

  A group of one gets its raw reward there, and 0 here. An example such as
  run_qwen2-7b.sh turns `use_kl_loss` on; that is then `kl_k3` times 0.001.
  """
  return dict(
    # verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage:
    # torch.std divides by n - 1; epsilon 1e-6.
    advantage=dict(name='group', ddof=1, eps=1e-6),
    # verl/trainer/config/actor/actor.yaml: clip_ratio_low and _high 0.2,
    # clip_ratio_c 3.0; compute_policy_loss_vanilla always clips twice.
    loss=dict(name='ppo_clip', low=0.2, high=0.2, dual=3.0),
    # verl/trainer/config/actor/actor.yaml: use_kl_loss false, entropy_coeff 0;
    # verl/trainer/config/ppo_trainer.yaml: use_kl_in_reward false.
    regularizers=dict(),
    # verl/trainer/config/actor/actor.yaml: loss_agg_mode token-mean.
    aggregate=dict(name='token_mean'),
  )


def tunix() -> dict:
  """google-tunix 0.1.7, read and run: `GRPOConfig` with all defaults.

  Its divergence is the difference of log-probabilities, whose gradient is zero
  on average on policy: noise, and no pull (`regularizers.kl_k1`).
  """
  return dict(
    # tunix/rl/algo_core.py, compute_advantages: ddof=1; 1e-6 is in the line.
    advantage=dict(name='group', ddof=1, eps=1e-6),
    # tunix/rl/grpo/grpo_learner.py: epsilon 0.2, no epsilon_high; no
    # epsilon_c, so no dual clip.
    loss=dict(name='ppo_clip', low=0.2, high=0.2),
    # tunix/rl/grpo/grpo_learner.py: beta 0.04, kl_loss_mode 'kl';
    # tunix/rl/algorithm_config.py: kl_clamp_value None.
    regularizers=dict(kl_k1=dict(coefficient=0.04)),
    # tunix/rl/grpo/grpo_learner.py: loss_agg_mode sequence-mean-token-mean.
    aggregate=dict(name='sequence_mean'),
  )


def openrlhf() -> dict:
  """OpenRLHF 0.11.2, read; `group_norm` and `kl.use_loss`, not its defaults.

  By default the divergence (k1, 0.01) is taken from the reward of each token,
  which no part here does. As a loss, with k3 as its help says of GRPO, it has
  the default coefficient.
  """
  return dict(
    # openrlhf/trainer/ppo_utils/experience_maker.py, group_norm: torch.std
    # divides by n - 1; 1e-9 is in the line. No second whitening.
    advantage=dict(name='group', ddof=1, eps=1e-9),
    # openrlhf/cli/train_ppo_ray.py: eps_clip 0.2, dual_clip None.
    loss=dict(name='ppo_clip', low=0.2, high=0.2),
    # openrlhf/cli/train_ppo_ray.py: kl.init_coef 0.01, and its help on k3.
    regularizers=dict(kl_k3=dict(coefficient=0.01)),
    # openrlhf/cli/train_ppo_ray.py: loss_agg_mode token-mean.
    aggregate=dict(name='token_mean'),
  )


def nemo() -> dict:
  """NeMo-RL, read file by file at the commits given: no package to install.

  The baseline leaves the sample itself out, and so does the deviation; where
  the others are equal nothing is divided. Its loss now multiplies k3 by
  `exp(logp - sg[logp])`, which adds `k3 grad logp` to the gradient (006907a9).
  No part does that: here the gradient is that of k3 alone, as in its loss
  before (005a098a).
  """
  return dict(
    # nemo_rl/algorithms/utils.py, calculate_baseline_and_std_per_prompt
    # (00439539): the others' variance by n - 1; advantage_estimator.py
    # (00925dd1): leave-one-out and normalization on, epsilon 1e-6.
    advantage=dict(name='leave_one_out_std', eps=1e-6),
    # nemo_rl/algorithms/loss/loss_functions.py, ClippedPGLossConfig
    # (006907a9): ratio_clip_min and _max 0.2, ratio_clip_c None.
    loss=dict(name='ppo_clip', low=0.2, high=0.2),
    # The same: reference_policy_kl_penalty 0.01, _type k3.
    regularizers=dict(kl_k3=dict(coefficient=0.01)),
    # The same: token_level_loss true.
    aggregate=dict(name='token_mean'),
  )
