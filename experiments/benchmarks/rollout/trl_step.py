"""TRL: one optimizer step of its GRPOTrainer.

Settings: `rows=N,generate=M`: N responses in a micro-batch of the update, M
generated at once; `rows=N,continuous=M`: all with continuous batching, at
most M at once.
"""

import sys
import tempfile
import time

import datasets
import protocol
import torch
import transformers
import trl
import workload as workload_lib

WARM_STEPS = 2


class Repeats(transformers.TrainerCallback):
  """Holds the training loop between two steps until asked to go on.

  From one answer's request to the end of the step, all that the loop does is
  timed: loading data, generation, rewards, update.
  """

  def __init__(self, port: protocol.Port):
    self.port = port
    self.sample_seconds = 0.0
    self.lengths: list[int] = []
    self._began = 0.0

  def on_train_begin(self, args, state, control, **_):
    """The first step needs no request: it warms up."""
    self._begin()

  def on_step_end(self, args, state, control, **_):
    """Answers, and waits for the next request."""
    seconds = time.perf_counter() - self._began
    if state.global_step == WARM_STEPS:
      self.port.ready()
    elif state.global_step > WARM_STEPS:
      self.port.send(
        seconds=seconds,
        sample_seconds=self.sample_seconds,
        lengths=self.lengths,
      )
    if state.global_step >= WARM_STEPS and self.port.receive() is None:
      control.should_training_stop = True
    self._begin()

  def _begin(self) -> None:
    self.sample_seconds, self.lengths = 0.0, []
    self._began = time.perf_counter()


class Trainer(trl.GRPOTrainer):
  """The trainer, with a clock around its rollouts and their rewards."""

  def __init__(self, *args, repeats: Repeats, **kwargs):
    super().__init__(*args, callbacks=[repeats], **kwargs)
    self._repeats = repeats

  def _generate_and_score_completions(self, inputs):
    began = time.perf_counter()
    output = super()._generate_and_score_completions(inputs)
    self._repeats.sample_seconds += time.perf_counter() - began
    self._repeats.lengths += output['completion_mask'].sum(1).tolist()
    return output


def make_config(
  work: workload_lib.Workload, setting: dict[str, int], folder: str
) -> trl.GRPOConfig:
  """GRPO without KL, one update for all responses."""
  rows = setting['rows']
  at_once = setting.get('generate', work.rows)
  continuous = {}
  if 'continuous' in setting:
    most = setting['continuous']
    continuous = {
      'use_transformers_continuous_batching': True,
      'transformers_continuous_batching_config': {
        'max_requests_per_batch': most,
        'num_blocks': 2 * most * (work.width + work.cap) // 256 + most,
        'max_batch_tokens': max(512, 2 * most),
      },
    }
  return trl.GRPOConfig(
    output_dir=folder,
    use_cpu=True,
    bf16=False,
    fp16=False,
    gradient_checkpointing=False,
    per_device_train_batch_size=rows,
    gradient_accumulation_steps=work.rows // rows,
    steps_per_generation=max(at_once // rows, 1),
    num_generations=work.samples,
    max_completion_length=work.cap,
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    beta=0.0,
    loss_type='grpo',
    learning_rate=1e-6,
    lr_scheduler_type='constant',
    adam_beta2=0.95,
    max_grad_norm=1.0,
    max_steps=10**6,
    logging_strategy='no',
    save_strategy='no',
    report_to='none',
    disable_tqdm=True,
    **continuous,
  )


def load_tokenizer(work: workload_lib.Workload):
  """That of the checkpoint; `AutoTokenizer` would take Qwen2's own class."""
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(work.model)
  workload_lib.check_texts(work, tokenizer.encode)
  return tokenizer


def grade(completions: list[str], **_) -> list[float]:
  """A reward for each text."""
  return [workload_lib.reward(text) for text in completions]


def main() -> None:
  """Trains, one step for each request."""
  port = protocol.Port()
  work = workload_lib.load(sys.argv[1])
  setting = {
    name: int(value)
    for name, value in (part.split('=') for part in sys.argv[2].split(','))
  }
  model = transformers.AutoModelForCausalLM.from_pretrained(
    work.model, dtype=torch.float32
  )
  texts = [workload_lib.to_text(ids) for ids in work.prompts]
  with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
      model=model,
      reward_funcs=grade,
      args=make_config(work, setting, folder),
      train_dataset=datasets.Dataset.from_dict({'prompt': texts}),
      processing_class=load_tokenizer(work),
      repeats=Repeats(port),
    )
    trainer.train()


if __name__ == '__main__':
  main()
