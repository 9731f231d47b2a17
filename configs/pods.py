"""What changes in a config on a pod of TPUs.

The numbers of these configs are planned, and none of them was run: `lrm plan
--config=FILE --topology=NAME` compiles the programs of a run for chips that
are not there, and says what each phase leaves of their memory. Its tables are
in `experiments/pods/README.md`.
"""


def on_pod(
  config,
  *,
  chips,
  slots,
  kv_tokens,
  rows=1,
  context=1,
  tensor=1,
  head_tokens=2048,
):
  """A config on so many chips; what has no number here stays as it was.

  Parameters, optimizer and rows are divided over all chips (fsdp).

  Args:
    config: of `configs/r1.py`.
    chips: of the pod.
    slots: responses that a chip decodes at the same time.
    kv_tokens: keys and values that a chip has room for.
    rows: of a micro-batch, on each group of `context` chips.
    context: chips that share the places of a row.
    tensor: chips that share a lane of the sampler, and its weights.
    head_tokens: whose logits exist at a time, on each chip.
  """
  config.mesh.context = context
  config.model.attention = 'splash'  # no scores in memory; no shared prompts
  config.model.logits_dtype = 'bfloat16'  # products; sums are in float32
  config.train.rows = rows * chips // context
  config.train.groups = config.train.rows
  config.train.logit_chunk = head_tokens * chips
  config.sampler.slots = slots * chips
  config.sampler.kv_tokens = kv_tokens * chips
  config.sampler.tensor = tensor
  return config
