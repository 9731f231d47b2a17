"""What the methods share on DeepSeek-R1-Distill-Qwen-1.5B.

`configs/NAME_r1_1p5b.py` gives each method the numbers of its paper, and says
beside every number whose it is:

  paper                     read in the paper or in its released code
  released script           read in the script that launches a run
  third party               read in somebody else's account of the paper
  from memory, unverified   not looked up
  not stated; ours          in nothing that we have read

They are settings, not results. What names no source in this file is ours, and
so are temperature, warm-up, weight decay and clip norm where a config is
silent. Model and data are local: a directory in the HF layout, and a .jsonl
of questions and answers each.

The papers sample evaluations with a top-p of 0.95; here it is 1. Attention
holds its scores, rows x 12 heads x row_length^2 x 4 bytes of a micro-batch:
19 GB for DLER, 33 GB for DisCO, 116 GB for 8 responses of 16384 tokens.
"""

from configs import default
from lrm_jax.data import prompts


def r1(
  objective,
  *,
  problems,
  samples,
  mini_batches,
  room,
  learning_rate,
  steps,
  temperature=1.0,
  rounds=1,
  prompt=1024,
  eval_samples=16,
  eval_room=32768,
):
  """A run of `objective`.

  Args:
    objective: of `objectives.py`, `efficient.py` or `credits.py`.
    problems: B, in a batch.
    samples: G, responses per problem.
    mini_batches: optimizer updates per step.
    room: tokens a response may ever have; the objective's caps stay below.
    learning_rate: constant, unless the config sets a warm-up or a schedule.
    steps: RL steps.
    temperature: of sampling in training.
    rounds: sampling rounds at most; more than one for a dynamic sampling that
      fills its batch.
    prompt: tokens of the longest prompt; 1024 in the scripts of DLER, DisCO
      and Laser.
    eval_samples: per problem; DLER's, 16, unless the paper has others.
    eval_room: tokens of a response; DLER's "32k", likewise.
  """
  config = default.get_config()
  config.objective = objective
  config.model.path = 'DeepSeek-R1-Distill-Qwen-1.5B'
  config.model.compute_dtype = 'bfloat16'  # parameters stay in float32
  config.model.remat = 'full'  # 28 layers' inputs: 84 KiB a token
  config.data.train = 'deepscaler.jsonl'
  config.data.eval = 'aime24.jsonl'
  config.data.instruction = prompts.R1_INSTRUCTION
  config.data.max_prompt_tokens = prompt
  config.train.steps = steps
  config.train.problems = problems
  config.train.samples = samples
  config.train.mini_batches = mini_batches
  config.train.max_tokens = room
  config.train.max_rounds = rounds
  config.train.temperature = temperature
  config.train.rows = samples  # one group, if all are as long as can be
  config.train.row_length = prompt + room
  config.train.groups = 8  # several, if they are shorter
  config.train.logit_chunk = 1024  # x 151936 logits: 0.6 GB an array
  # bfloat16 keeps 8 bits: the tiny LRM's largest gap in it was 0.1 nats, and
  # this is ten times as deep with a thousand times the tokens to choose the
  # worst from. A token in a wrong place is off by ten nats and more.
  config.train.logp_gap_limit = 2.0
  config.train.rollouts_every = 10
  config.train.checkpoint_minutes = 20.0  # a machine may go at any time
  config.sentinels.every = 50  # at the start too
  # 64 responses at a time: 62 GB of cache, at 33792 tokens of 28 KiB.
  config.sampler.slots = 64
  config.eval.problems = 0  # all
  config.eval.samples = eval_samples
  config.eval.max_tokens = eval_room
  config.eval.temperature = 0.6  # that of DLER, SIRI and DOT
  config.optimizer.learning_rate = learning_rate
  config.optimizer.warmup_steps = 0
  config.optimizer.b2 = 0.999  # torch's default; no source states another
  return config
