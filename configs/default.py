"""Every key of `lrm train`, with its unit or reason. The recipe is DLER.

Other configs import this one and change a few lines. Lengths are in tokens.
"""

import math

from ml_collections import config_dict

from configs import efficient


def get_config() -> config_dict.ConfigDict:
  """DLER on the embedded tiny LRM."""
  config = config_dict.create(
    seed=0,  # of every random stream
    model=dict(
      path='tiny_lrm',  # a directory in the HF layout, or an embedded model
      param_dtype='float32',  # of parameters; bfloat16 is rounded at random
      compute_dtype='float32',  # activations and matrix products
      logits_dtype='float32',  # the output head
      attention='chunked',  # reference | chunked | dot_product | splash
      remat='none',  # none | dots | full: what the backward pass recomputes
      scan_unroll=1,  # layers per loop iteration; all of them if shallow
    ),
    mesh=dict(  # devices along each axis; together all that there are
      data=1,  # with the same parameters, each for its own rows
      fsdp=-1,  # that share parameters, optimizer and rows; -1: all the others
      tensor=1,  # that share heads, inner widths and the vocabulary
      context=1,  # that share the places of a row
      expert=1,  # that share the experts, and rows
    ),
    lora=dict(
      rank=0,  # of the adapters that are trained; 0: none, all parameters are
      alpha=32.0,  # what they add counts alpha / rank times
      targets=('q', 'k', 'v', 'o', 'gate', 'up', 'down'),  # projections
      path=config_dict.placeholder(str),  # start from a PEFT adapter directory
    ),
    data=dict(
      train='chain_arithmetic',  # a name of `data/sources.py` or a .jsonl path
      train_split='train',  # of a builder; a file is used whole
      train_problems=0,  # the first ones only; 0: all
      eval='chain_arithmetic',  # likewise
      eval_split='heldout',  # likewise
      dir=config_dict.placeholder(str),  # of TFDS and of local benchmarks
      instruction='',  # appended to every question; may state the {target}
      pass_rates=config_dict.placeholder(str),  # for a curriculum: a file
      demonstrations=config_dict.placeholder(str),  # for HPT: a .jsonl
      max_prompt_tokens=40,  # a longer prompt is an error
    ),
    train=dict(
      steps=200,  # RL steps at most
      token_budget=0,  # sampled response tokens that end the run; 0: no limit
      problems=32,  # B, problems in a batch
      samples=8,  # G, responses per problem; with `gvm` at most
      max_tokens=96,  # T, room for a response; budgets stay below
      thinking_budget=0,  # tokens before thinking_end is forced; 0: none
      max_rounds=2,  # sampling rounds per step to fill the batch
      rounds_ahead=0,  # begun in idle slots before they are known to be needed
      partial_tokens=0,  # of a response per step at most; 0: whole responses
      in_flight=0,  # problems that are sampled so at a time; `problems` or more
      batches_ahead=0,  # 1: sampled while the one before is trained
      sampler_devices=0,  # the last ones, for the sampler alone; 0: none
      mini_batches=1,  # optimizer updates per pass; divides `problems`
      passes=1,  # times that each mini-batch of a step is gone through
      old_logp='sampler',  # what ratios are against: sampler | trainer
      temperature=1.0,  # of sampling, and of every log-probability
      truncation=dict(  # of the law, in this order; updates replay kept sets
        most=0,  # ids that are ever kept, 512 at most; 0: top_k, the only bound
        top_n_sigma=0.0,  # standard deviations below the largest logit; 0: off
        top_h=1.0,  # share of the entropy, as in the paper's text; 1: off
        top_h_cumulative=1.0,  # and as in its code; 1: off
        min_p=0.0,  # of the largest probability; 0: off
        top_k=0,  # ids; 0: off
        top_p=1.0,  # mass; 1: off
        typical=1.0,  # mass of those closest to the entropy; 1: off
        epsilon=0.0,  # least probability; 0: off
        eta=0.0,  # the same, lower where entropy is high; 0: off
      ),
      rows=64,  # R, packed rows in a micro-batch
      row_length=160,  # S, tokens in a packed row
      groups=16,  # problems in a micro-batch at most
      load_balance=0.0,  # times the load-balance loss; for experts only
      logit_chunk=4096,  # tokens whose logits exist at a time
      offload=(),  # kept in the host's memory: optimizer, reference
      logp_gap_limit=1e-4,  # nats; sampler against trainer, every step
      max_skipped=5,  # updates in a row that are not finite end the run
      monitor_every=0,  # steps; for a recipe that observes a monitor
      monitor_problems=0,  # its size: the last ones of the training data
      checkpoint_every=50,  # steps
      checkpoint_minutes=0.0,  # since the last one; 0: as long as it takes
      keep_checkpoints=2,  # the newest ones
      keep_best=0,  # and those with the highest best_metric; 0: none for that
      best_metric='accuracy',  # of the step's row in metrics.jsonl
      keep_unverified=False,  # True: responses without a verdict are wrong ones
      guards=(),  # of rewards/guards.py: their hits are graded wrong
      rollouts_every=1,  # steps; rollouts/step_NNNNNN.jsonl.gz; 0: never
    ),
    sampler=dict(  # of training and evaluation: the larger needs of both
      slots=256,  # responses that are decoded at the same time
      round_tokens=8,  # decode steps between two looks at who is done
      kv_tokens=0,  # room for keys and values; 0: as long as can be, all slots
      kv_dtype='compute',  # of stored ones: compute | bfloat16 | int8
      lanes=0,  # engines side by side; 0: one a core on a CPU, else one
      tensor=1,  # devices that share a lane: its heads, widths and vocabulary
    ),
    stopping=dict(
      stop=(),  # texts that end a response, as its end-of-sequence token does
      thinking_end='</think>',  # forced when a thinking budget is spent
    ),
    eval=dict(
      problems=256,  # 0: all
      samples=8,  # per problem
      max_tokens=384,  # room for a response
      temperature=1.0,  # 0: greedy
      target=0,  # what its prompts ask for, where the instruction states it
      thinking_budget=0,  # tokens before thinking_end is forced; 0: none
      truncation=dict(  # of the law, in this order
        # Any rule but `most` alone needs a sampler beside that of training.
        most=0,  # ids that are ever kept; 0: all
        top_n_sigma=0.0,  # standard deviations below the largest logit; 0: off
        top_h=1.0,  # share of the entropy, as in the paper's text; 1: off
        top_h_cumulative=1.0,  # and as in its code; 1: off
        min_p=0.0,  # of the largest probability; 0: off
        top_k=0,  # ids; 0: off
        top_p=1.0,  # mass; 1: off
        typical=1.0,  # mass of those closest to the entropy; 1: off
        epsilon=0.0,  # least probability; 0: off
        eta=0.0,  # the same, lower where entropy is high; 0: off
      ),
      every=0,  # steps; 0: only before and after
      responses=1,  # of each problem, kept with text; of others their numbers
    ),
    optimizer=dict(
      name='adamw',  # adamw | muon | spam
      muon_factor=8.0,  # muon only: its rate on projections, over the peak
      spam_threshold=5000.0,  # spam only: times a second moment: a bound of g^2
      spam_interval=500,  # likewise; updates after which moments begin anew
      spam_warmup=150,  # likewise; updates behind that with a smaller step
      learning_rate=1e-3,  # peak
      schedule='constant',  # constant | cosine | linear
      warmup_steps=5,  # optimizer updates
      final_fraction=0.1,  # of the peak, where the schedule decays
      b1=0.9,  # decay of the first moment
      b2=0.95,  # and of the second
      eps=1e-8,  # added to its root
      weight_decay=0.0,  # times the learning rate, on matrices
      clip_norm=1.0,  # of the global gradient
      spike_factor=0.0,  # times its usual norm: a bound; 0: none
      spike_reset=False,  # a gradient that was bounded begins the moments anew
    ),
    sentinels=dict(  # checks beside those of every update; see `sentinels.py`
      every=0,  # steps from one replay and look at the weights on; 0: never
      patience=3,  # steps in a row beyond one limit that end the run
      entropy_min=0.0,  # nats, a mean over trained tokens; 0: none
      entropy_max=math.inf,  # likewise
      kl_max=math.inf,  # nats a trained token, to the reference
      tokens_min=0.0,  # of a sampled response, on average; 0: none
      tokens_max=math.inf,  # likewise
      truncated_max=1.0,  # share of sampled responses; 1: none
      accuracy_min=0.0,  # of sampled responses; 0: none
    ),
  )
  config.objective = efficient.dler(cap=96)
  return config.lock()
