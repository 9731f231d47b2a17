"""The whole main job on real questions and a checkpoint `transformers` made.

Random weights, so nearly every answer is wrong; everything else is real: chat
prompt, sampled responses, verdicts, updates, checkpoint, export, and the same
logits in `transformers` afterwards.
"""

import json
import os
import pathlib

import jax
import numpy as np
import pytest
import tokenizers

from lrm_jax import jsonl, main
from lrm_jax.checkpoints import huggingface
from lrm_jax.models import output_head, transformer
from lrm_jax.tokenization import base

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get('LRM_DATA_DIR', ROOT.parent / 'shared/data'))
TEMPLATE = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + "
  "m['content'] + '<|im_end|>\\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONFIG = """
from configs import dler_hf, objectives

def get_config():
  config = dler_hf.get_config()
  # No answer of a random model is right, so only this term has a gradient.
  config.objective = objectives.grpo(cap=TOKENS)
  with config.unlocked():
    config.objective.regularizers = {'entropy': {'coefficient': 0.01}}
  config.train.steps = 2
  config.train.problems = 2
  config.train.samples = 2
  config.train.max_tokens = TOKENS
  config.train.rows = 2
  # A vocabulary of 500 makes long prompts.
  config.data.max_prompt_tokens = 1024
  config.train.row_length = 1024 + TOKENS
  config.sampler.slots = 16
  config.eval.problems = 2
  config.eval.max_tokens = TOKENS
  config.optimizer.learning_rate = 1e-3
  return config
"""


def write_questions(path: pathlib.Path) -> None:
  """Word problems of our own, in the form of GSM8K."""
  rows = [
    {
      'id': f'word-{n}',
      'question': f'A crate holds {n} jars. How many jars do {n + 1} crates '
      'hold, if two jars of each are broken and thrown away?',
      'answer': str((n + 1) * (n - 2)),
    }
    for n in range(5, 21)
  ]
  jsonl.write_rows(path, rows)


def make_checkpoint(directory: pathlib.Path, texts: list[str]) -> None:
  """A Qwen2 model and a byte-level BPE vocabulary, by their own libraries."""
  torch = pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip(
    'transformers', reason='transformers is not installed'
  )
  bpe = tokenizers.ByteLevelBPETokenizer()
  special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
  bpe.train_from_iterator(texts, vocab_size=500, special_tokens=special)
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=bpe._tokenizer,
    eos_token='<|im_end|>',
    pad_token='<|endoftext|>',
  )
  tokenizer.chat_template = TEMPLATE
  tokenizer.save_pretrained(directory)
  torch.manual_seed(0)
  config = transformers.Qwen2Config(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    eos_token_id=tokenizer.eos_token_id,
    initializer_range=0.2,
  )
  transformers.Qwen2ForCausalLM(config).save_pretrained(directory)


def same_logits(directory: pathlib.Path) -> float:
  """Max |difference| of our logits and those of `transformers`."""
  import torch
  import transformers

  ids = np.random.default_rng(0).integers(3, 500, (2, 40))
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )
  with torch.no_grad():
    theirs = model(torch.tensor(ids)).logits.numpy()
  config, params = huggingface.load(directory)
  positions = np.broadcast_to(np.arange(40), ids.shape)
  hidden, _ = transformer.apply(
    config, params, ids, positions, np.ones_like(ids)
  )
  ours = output_head.logits(config, params, hidden)
  return float(np.abs(np.asarray(ours) - theirs).max())


@pytest.mark.parity
@pytest.mark.parametrize('source', ['own', 'gsm8k'])
def test_eval_and_train_on_a_checkpoint_of_transformers(source, tmp_path):
  data = tmp_path / 'own.jsonl'
  if source == 'own':
    write_questions(data)
  else:
    data = DATA / 'gsm8k_test.jsonl'
    if not data.exists():
      pytest.skip(f'{data} is not there')
  questions = [row['question'] for row in jsonl.read_rows(data)][:200]
  model = tmp_path / 'model'
  make_checkpoint(model, questions)
  assert same_logits(model) <= 1e-4
  tokens = 512
  code = main.main(
    [
      'lrm',
      'eval',
      f'--model={model}',
      f'--data={data}',
      '--n=2',
      '--limit=4',
      '--batch=4',
      f'--max_tokens={tokens}',
      f'--workdir={tmp_path / "eval"}',
    ]
  )
  assert code == 0
  summary = json.loads((tmp_path / 'eval' / 'summary.json').read_text())
  assert summary['problems'] == 4
  assert summary['accuracy'] <= 0.5
  config = tmp_path / 'real.py'
  config.write_text(CONFIG.replace('TOKENS', str(tokens)))
  workdir = tmp_path / 'run'
  arguments = [
    'lrm',
    'train',
    f'--config={config}',
    f'--workdir={workdir}',
    f'--config.model.path={model}',
    f'--config.data.train={data}',
    f'--config.data.eval={data}',
  ]
  assert main.main(arguments) == 0
  rows = jsonl.read_rows(workdir / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [1, 2]
  assert all(row['logp_gap_max'] < 1e-4 for row in rows)
  rollouts = jsonl.read_rows(workdir / 'rollouts' / 'step_000002.jsonl.gz')
  tokenizer = base.load(model)
  prompt = tokenizer.decode(rollouts[0]['prompt_ids'])
  assert prompt.startswith('<|im_start|>user\n')
  assert prompt.endswith('<think>\n')
  assert (workdir / 'checkpoints' / '2').is_dir()
  assert same_logits(workdir / 'model') <= 1e-4
  _, before = huggingface.load(model)
  _, after = huggingface.load(workdir / 'model')
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
  assert min(jax.tree.leaves(moved)) > 0
