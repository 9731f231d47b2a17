"""google-tunix: one optimizer step of its GRPO learner.

Setting: `rows=N,generate=M`: N responses in a micro-batch of the update, M
generated at once. Its packing of rows is left off: updates are counted in
micro-batches, and packing makes fewer of these, so that an update would no
longer belong to one batch.
"""

import dataclasses
import itertools
import sys
import time

import jax
import optax
import protocol
import transformers
import tunix_sampling
import workload as workload_lib
from flax import nnx
from tunix.rl import rl_cluster as cluster_lib
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

WARM_STEPS = 2


class Learner(grpo_learner.GRPOLearner):
  """The learner, with a clock around its rollouts and their rewards."""

  sample_seconds = 0.0
  lengths: list[int] = []

  def _generate_and_compute_advantage(self, *args, **kwargs):
    began = time.perf_counter()
    output = super()._generate_and_compute_advantage(*args, **kwargs)
    jax.block_until_ready(output)
    self.sample_seconds += time.perf_counter() - began
    cut = output.completion_mask.sum(1).tolist()
    # Its ends are cut off, and sampled and useful all the same.
    self.lengths = self.lengths + [
      min(n + 1, output.completion_mask.shape[1]) for n in cut
    ]
    return output


def requests(port: protocol.Port, learner: Learner, batch: dict):
  """The training data: the same prompts for each request.

  The loop asks for the next batch when a step is over.
  """
  actor = learner.rl_cluster.actor_trainer.model
  for done in range(10**6):
    learner.sample_seconds, learner.lengths = 0.0, []
    began = time.perf_counter()
    yield dict(batch)
    jax.block_until_ready(nnx.state(actor))
    seconds = time.perf_counter() - began
    if done + 1 == WARM_STEPS:
      port.ready()
    elif done + 1 > WARM_STEPS:
      port.send(
        seconds=seconds,
        sample_seconds=learner.sample_seconds,
        lengths=learner.lengths,
      )
    if done + 1 >= WARM_STEPS and port.receive() is None:
      return


def load_tokenizer(work: workload_lib.Workload):
  """That of the checkpoint; `AutoTokenizer` would take Qwen2's own class."""
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(work.model)
  workload_lib.check_texts(work, tokenizer.encode)
  return tokenizer


def renew_seeds(rollout: base_rollout.BaseRollout) -> None:
  """A seed of its own for every batch; else all get the same noise."""
  generate, seeds = rollout.generate, itertools.count()

  def seeded(prompts, config, **kwargs):
    config = dataclasses.replace(config, seed=next(seeds))
    return generate(prompts, config, **kwargs)

  rollout.generate = seeded


def make(work: workload_lib.Workload, setting: dict[str, int]) -> Learner:
  """GRPO without KL, one update for all responses."""
  model, _ = tunix_sampling.load(work.model)
  mesh = jax.make_mesh(
    (1, 1), ('fsdp', 'tp'), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  roles = (
    cluster_lib.Role.ACTOR,
    cluster_lib.Role.REFERENCE,
    cluster_lib.Role.ROLLOUT,
  )
  groups = lambda name: max(setting[name] // work.samples, 1)
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-6, b2=0.95, weight_decay=0)
  )
  cluster = cluster_lib.RLCluster(
    actor=model,
    tokenizer=load_tokenizer(work),
    cluster_config=cluster_lib.ClusterConfig(
      role_to_mesh=dict.fromkeys(roles, mesh),
      training_config=cluster_lib.RLTrainingConfig(
        actor_optimizer=optimizer,
        eval_every_n_steps=10**9,
        max_steps=10**9,
        mini_batch_size=len(work.prompts),
        train_micro_batch_size=groups('rows'),
        rollout_micro_batch_size=groups('generate'),
        compute_logps_micro_batch_size=groups('rows'),
      ),
      rollout_config=base_rollout.RolloutConfig(
        max_tokens_to_generate=work.cap,
        max_prompt_length=work.width,
        kv_cache_size=work.width + work.cap,
        temperature=1.0,
        top_p=1.0,
        top_k=None,
      ),
    ),
  )
  renew_seeds(cluster.rollout)
  return Learner(
    rl_cluster=cluster,
    algo_config=grpo_learner.GRPOConfig(
      num_generations=work.samples, num_iterations=1, beta=0.0, epsilon=0.2
    ),
    reward_fns=lambda prompts, completions, **_: [
      workload_lib.reward(text) for text in completions
    ],
  )


def main() -> None:
  """Trains, one step for each request."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  setting = {
    name: int(value)
    for name, value in (part.split('=') for part in sys.argv[2].split(','))
  }
  learner = make(work, setting)
  texts = [workload_lib.to_text(ids) for ids in work.prompts]
  learner.train(requests(port, learner, {'prompts': texts}))


if __name__ == '__main__':
  main()
