"""Prompts as models expect them; templates kept in their sandbox."""

import datetime

import pytest

from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.tokenization import base
from tests.tokenization import tiny

QUESTION = 'What is 1 + 2 ?'


def tokenizer_with(directory, template=None, write=tiny.write_hf):
  write(directory)
  if template is not None:
    (directory / 'chat_template.jinja').write_text(template)
  return base.load(directory)


def test_template_that_opens_thinking(tmp_path):
  tokenizer = tokenizer_with(tmp_path, tiny.R1_TEMPLATE)
  prompt = prompts.format_prompt(tokenizer, QUESTION)
  assert prompt == f'<bos><|User|>{QUESTION}<|Assistant|><think>\n'
  ids = prompts.encode_prompt(tokenizer, QUESTION)
  assert ids == tokenizer.encode(prompt)
  assert ids.count(tokenizer.encode('<bos>')[0]) == 1


def test_template_that_does_not_open_thinking(tmp_path):
  tokenizer = tokenizer_with(tmp_path, tiny.QWEN_TEMPLATE)
  assert prompts.format_prompt(tokenizer, QUESTION) == (
    '<|im_start|>system\nBe helpful.<|im_end|>\n'
    f'<|im_start|>user\n{QUESTION}<|im_end|>\n'
    '<|im_start|>assistant\n<think>\n'
  )


def test_template_decides_about_its_newline(tmp_path):
  tokenizer = tokenizer_with(tmp_path, '{{ messages[0].content }}<think>')
  assert prompts.format_prompt(tokenizer, 'q') == 'q<think>'


def test_blocks_leave_no_whitespace(tmp_path):
  template = '{% if true %}\n  {% set x = 1 %}\na\n  {% endif %}\nb\n'
  tokenizer = tokenizer_with(tmp_path, template)
  assert prompts.format_prompt(tokenizer, 'q') == 'a\nb<think>\n'


@pytest.mark.parametrize('write', [tiny.write_hf, tiny.write_spm])
def test_plain_form_for_a_vocabulary_with_the_symbols(tmp_path, write):
  tokenizer = tokenizer_with(tmp_path, write=write)
  prompt = prompts.format_prompt(tokenizer, QUESTION)
  assert prompt == f'<|User|>{QUESTION}<|Assistant|><think>\n'


def test_plain_form_with_a_space_before_the_first_piece(tmp_path):
  tiny.write_spm(tmp_path, add_dummy_prefix=True)
  prompt = prompts.format_prompt(base.load(tmp_path), QUESTION)
  assert prompt == f'<|User|>{QUESTION}<|Assistant|><think>\n'


def test_plain_form_without_symbols(tmp_path):
  tokenizer = base.load(tiny.write_hf(tmp_path, plain=()))
  prompt = prompts.format_prompt(tokenizer, QUESTION)
  assert prompt == f'Question: {QUESTION}\n<think>\n'


@pytest.mark.parametrize('template', [None, tiny.R1_TEMPLATE])
def test_instruction_follows_the_question(tmp_path, template):
  tokenizer = tokenizer_with(tmp_path, template)
  prompt = prompts.format_prompt(tokenizer, 'q', prompts.R1_INSTRUCTION)
  assert f'<|User|>q\n{prompts.R1_INSTRUCTION}<|Assistant|>' in prompt
  assert prompts.encode_prompt(
    tokenizer, 'q', prompts.R1_INSTRUCTION
  ) == tokenizer.encode(prompt)


@pytest.mark.parametrize(
  ('template', 'message'),
  [
    ("{{ ''.__class__.__mro__ }}", 'SecurityError'),
    ("{{ messages.append({'role': 'x'}) }}", 'SecurityError'),
    ("{% set _ = messages[0].update({'content': 'x'}) %}", 'SecurityError'),
    ('{{ cycler.__init__.__globals__.os }}', 'SecurityError'),
    ("{{ raise_exception('only system\nfirst') }}", 'only system first'),
    ('{% if %}', 'TemplateSyntaxError'),
    ('{{ messages[0].nothing.at_all }}', 'UndefinedError'),
    ('{{ 1 / 0 }}', 'ZeroDivisionError'),
    ("{% include '/etc/hostname' %}", 'TypeError'),
    ('{% for i in range(10 ** 9) %}{% endfor %}', 'OverflowError'),
  ],
)
def test_bad_templates_are_one_line_errors(tmp_path, template, message):
  tokenizer = tokenizer_with(tmp_path, template)
  with pytest.raises(UserError, match=message) as error:
    prompts.format_prompt(tokenizer, 'q')
  assert str(error.value).startswith('chat_template: ')
  assert '\n' not in str(error.value)


def test_question_is_never_rendered(tmp_path):
  tokenizer = tokenizer_with(tmp_path, tiny.R1_TEMPLATE)
  assert '{{ 1 + 1 }}' in prompts.format_prompt(tokenizer, '{{ 1 + 1 }}')


def test_template_may_ask_for_the_date(tmp_path):
  tokenizer = tokenizer_with(tmp_path, "{{ strftime_now('%Y') }}")
  years = {datetime.datetime.now().year, datetime.datetime.now().year - 1}
  prompt = prompts.format_prompt(tokenizer, 'q')
  assert int(prompt.removesuffix('<think>\n')) in years


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('so 3</think>\n3', ('so 3', '\n3', True)),
    ('so 3', ('so 3', '', False)),
    ('', ('', '', False)),
    ('</think>', ('', '', True)),
    ('a</think>b</think>c', ('a', 'b</think>c', True)),
    ('a</thin', ('a</thin', '', False)),
  ],
)
def test_split_response(text, expected):
  assert prompts.split_response(text) == expected
