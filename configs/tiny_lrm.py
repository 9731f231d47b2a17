"""The embedded tiny LRM: a 0.4 M parameter reasoning model that overthinks.

  lrm sft --config=configs/tiny_lrm.py --workdir=runs/tiny_lrm

First the arithmetic facts, densely, in short traces; then the verbose style
with slips, re-checks and repairs. Two CPU cores, under 20 minutes.
`runs/tiny_lrm/model` is what `lrm_jax/assets/tiny_lrm` holds.
"""

from ml_collections import config_dict

LEVELS = (2, 3, 4, 5, 6, 7, 8)  # operations per problem


def get_config() -> config_dict.ConfigDict:
  return config_dict.create(
    seed=0,
    model=dict(
      path=config_dict.placeholder(str),  # fine-tune this one; None: a new one
      new=dict(
        family='qwen2',  # whose layout it is exported in; lrm: our own
        vocab_size=192,
        d_model=128,
        n_layers=2,  # two suffice to look a label up and to add
        n_heads=4,
        n_kv_heads=1,
        head_dim=32,
        d_ff=384,
        max_positions=1024,
        positions='rope',  # the others, see models/positions.py, need 'lrm'
        rope=dict(theta=1e4),  # sequences are short
        rms_eps=1e-6,
        tie_embeddings=True,
        scan_unroll=2,
      ),
    ),
    tokenizer=dict(
      vocab_size=192,
      examples=3000,  # traces it is trained on
      path=config_dict.placeholder(str),  # or rows of this .jsonl, see `data`
    ),
    mesh=dict(  # devices along each axis, see `configs/default.py`
      data=1, fsdp=-1, tensor=1, context=1, expert=1
    ),
    lora=dict(
      rank=0,  # of the adapters that are trained; 0: none, all parameters are
      alpha=32.0,  # what they add counts alpha / rank times
      targets=('q', 'k', 'v', 'o', 'gate', 'up', 'down'),  # projections
      path=config_dict.placeholder(str),  # start from a PEFT adapter directory
    ),
    data=dict(
      train='chain_arithmetic',  # or a .jsonl of `question` and `response`
      eval='chain_arithmetic',
      max_prompt_tokens=40,
    ),
    # In the order of their names; rows * row_length tokens a step.
    stages=dict(
      a_facts=dict(
        steps=700,
        rows=12,  # small batches: many updates from few tokens
        row_length=160,
        max_tokens=120,  # a longer trace is drawn again
        levels=(1, *LEVELS),
        # Re-checks already, so that steps are looked up by their label and
        # not by their place; no slips yet.
        style=dict(
          slip=0.0, recheck=0.25, recheck_wrong=0.0, again=0.2, again_wrong=0.0
        ),
      ),
      b_verbose=dict(
        steps=3300,
        rows=5,
        row_length=432,
        max_tokens=384,
        levels=LEVELS,
        style=dict(
          slip=0.05,
          recheck=0.45,
          recheck_wrong=0.85,
          again=0.5,
          again_wrong=0.75,
        ),
      ),
    ),
    optimizer=dict(
      name='muon',  # reaches AdamW's loss with a third of the tokens here
      muon_factor=8.0,  # times the learning rate, on projections
      spam_threshold=5000.0,  # spam only, see `configs/default.py`
      spam_interval=500,
      spam_warmup=150,
      learning_rate=2e-3,  # peak
      schedule='cosine',
      warmup_steps=100,
      final_fraction=0.02,
      b1=0.9,
      b2=0.98,
      eps=1e-8,  # not of muon
      weight_decay=0.0,
      clip_norm=1.0,
      spike_factor=0.0,  # see `configs/default.py`
      spike_reset=False,
    ),
    loss=dict(  # of `lrm_jax/sft_losses.py`, and keywords of it
      name='cross_entropy',  # cross_entropy | entropy_sft
    ),
    max_skipped=5,  # updates in a row that are not finite end the run
    position_limit=0,  # draw training positions below this; 0: as they are
    load_balance=0.0,  # times the load-balance loss; for experts only
    checkpoint_every=500,  # steps
    eval=dict(
      problems=256,  # held-out; 0: no evaluation
      samples=8,
      slots=256,  # responses that are decoded at the same time
      max_tokens=384,
      temperature=1.0,
    ),
  ).lock()
