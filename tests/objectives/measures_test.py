"""Measures: texts by hand, and chain arithmetic against the loops."""

import functools
import random

import numpy as np
import pytest

from lrm_jax.data import prompts
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from lrm_jax.objectives import measures
from tests import tiny
from tests.objectives import reference
from tests.objectives.reference import measures as expected_measures

DERIVATIONS = '(?<![,:]) '
SENTENCES = r'(?<=[.!?])\s+|\n+'


class Bytes:
  """A token per byte; 256 ends."""

  def encode(self, text):
    return list(text.encode())

  def decode(self, ids):
    data = bytes(index for index in ids if index < 256)
    return data.decode('utf-8', 'replace')


def respond(text, gold='', tokenizer=None):
  """The measures' view of a text, an end-of-sequence token behind it."""
  tokenizer = Bytes() if tokenizer is None else tokenizer
  thinking, _, _ = prompts.split_response(text)
  ids = tokenizer.encode(text)
  length = next(
    n for n in range(len(ids) + 1) if tokenizer.decode(ids[:n]) == thinking
  )
  ids.append(256 if isinstance(tokenizer, Bytes) else tokenizer.eos_ids[0])
  return measures.Response(
    text=text,
    ids=ids,
    thinking=thinking,
    thinking_length=length,
    gold=gold,
    correct=True,
    tokenizer=tokenizer,
  )


@functools.cache
def traces():
  """Chain arithmetic that goes back often: (problem, response)."""
  style = chain_arithmetic.Style(
    slip=0.2, recheck=0.4, recheck_wrong=0.6, again=0.3, again_wrong=0.3
  )
  rng = random.Random(1)
  pairs = []
  for index in range(40):
    problem = chain_arithmetic.make_problem(index)
    text = chain_arithmetic.trace(problem, style, rng)
    pairs.append((problem, respond(text, problem.answer, tiny.tokenizer())))
  return pairs


# --- paragraphs ---


@pytest.mark.parametrize(
  ('thinking', 'count'),
  [
    ('', 0),
    (' \n', 0),
    ('one', 1),
    ('one\nline', 1),
    ('one\n\ntwo', 2),
    ('\n\none\n\n\n\n\ntwo\n\n \n\n', 2),
    ('one\n \ntwo', 1),  # not blank for the default
  ],
)
def test_paragraphs(thinking, count):
  assert measures.paragraphs(respond(thinking)) == count
  assert measures.paragraphs(respond(f'{thinking}</think>a\n\nb')) == count


def test_paragraphs_at_other_separators():
  response = respond(' a:1+4=5 Wait, a:1+4=5 b:5+7=12 Again: a:1+4=5 b:5+7=12')
  assert measures.paragraphs(response, separator=' ') == 7
  assert measures.paragraphs(response, separator=DERIVATIONS) == 5
  response = respond('one\n \ntwo')
  assert measures.paragraphs(response, separator=r'\n\s*\n') == 2


def test_paragraphs_equal_the_loops():
  for _, response in traces():
    for separator in (' ', 'Wait, '):
      assert measures.paragraphs(
        response, separator=separator
      ) == expected_measures.paragraphs(response, separator)


# --- longest_paragraph ---


@pytest.mark.parametrize(
  ('thinking', 'tokens'),
  [
    ('', 0),
    (' \n', 0),
    ('one', 3),
    ('one\n\nthree\n\ntwo', 5),
    ('one\n\n        \n\ntwo', 3),  # white space is no paragraph
    ('one\nline\n\ntwo', 8),
    ('\u65e5\n\nab', 3),  # tokens, not characters
  ],
)
def test_longest_paragraph(thinking, tokens):
  for rest in ('', '</think>a much longer answer'):
    assert measures.longest_paragraph(respond(thinking + rest)) == tokens


def test_longest_paragraph_at_other_separators():
  response = respond(' a:1+4=5 Wait, a:1+4=5 Again: a:1+4=5 b:5+7=12')
  assert measures.longest_paragraph(response, separator=' ') == 8
  assert measures.longest_paragraph(response, separator=DERIVATIONS) == 14
  assert measures.longest_paragraph(respond('aXXb'), separator='X+') == 1


def test_longest_paragraph_equals_the_loops():
  for _, response in traces():
    for separator in (' ', 'Wait, '):
      found = measures.longest_paragraph(response, separator=separator)
      assert 0 < found <= response.thinking_length
      assert found == expected_measures.longest_paragraph(response, separator)


# --- compressibility ---


@pytest.mark.parametrize('text', ['', '</think>42', 'a', ' a:12+5=17'])
def test_compressibility_of_nothing_and_little_is_1(text):
  assert measures.compressibility(respond(text)) == 1


def test_compressibility_of_a_loop_tends_to_a_tenth():
  score = measures.compressibility(respond('Wait, again. ' * 300))
  assert 0.1 < score < 0.11


def test_compressibility_of_noise_is_1():
  noise = np.random.default_rng(0).integers(32, 127, 50)
  assert measures.compressibility(respond(bytes(noise.tolist()).decode())) == 1


def test_compressibility_reads_the_thinking_alone():
  # 'a' * 60 in DEFLATE with fixed codes: a literal, a repeat of 59 at distance
  # 1 and the end, 3 + 8 + (7 + 3) + 5 + 7 = 33 bits, which is 5 bytes. zlib
  # repeats from the second letter on, 8 bits more: 6 bytes.
  for rest in ('', '</think>', '</think>some other letters'):
    score = measures.compressibility(respond('a' * 60 + rest))
    size = (score - 0.1) / 0.9 * 60
    assert size in (pytest.approx(5), pytest.approx(6))


def test_compressibility_equals_the_loops():
  for _, response in traces():
    score = measures.compressibility(response)
    assert 0.1 < score <= 1
    assert score == pytest.approx(expected_measures.compressibility(response))


def test_going_back_lowers_compressibility():
  rng = random.Random(0)
  for index in range(14):
    problem = chain_arithmetic.make_problem(index)
    once = chain_arithmetic.trace(problem, chain_arithmetic.SHORTEST, rng)
    once = once.partition('</think>')[0]
    twice = respond(f'{once} Again:{once}')
    assert measures.compressibility(twice) < measures.compressibility(
      respond(once)
    )


# --- answer_class ---


def test_answer_class_is_that_of_the_spelling():
  texts = ('1 + 1 = 2</think>2', '</think>\\boxed{ 2 }', '</think>2.0', '2')
  found = [measures.answer_class(respond(text, '2')) for text in texts]
  assert found == [
    expected_measures.answer_class(respond(text, '2')) for text in texts
  ]
  one, same, other, none = found
  assert one == same >= 0 and other >= 0
  # Equal, but not spelled alike; thinking that never closes has no answer.
  assert one != other and none == -1
  assert np.float32(one) == one < 2**24


# --- answer_prefix ---


# A bar marks where the prefix stops; without one the answer is never reached.
@pytest.mark.parametrize(
  ('marked', 'gold'),
  [
    ('x = 17.| Again x = 17.', '17'),
    ('x = 17|\nCheck.', '17'),
    ('It is 17.| Wait.', '17'),
    ('It is 17!| Wait.', '$17$'),
    ('It is 17.| Wait.', '017'),
    ('It is $17$.| Wait.', '17'),
    ('Of 17 so far. It is \\(17\\).| Wait.', '17'),
    ('So \\boxed{17}.| Wait.', '17'),
    ('Of 17 so far. x=\\boxed{17} then.| Wait.', '17'),
    # A mention counts only where nothing stands as a result.
    ('Take 17 of them.| Leave 17 of those.', '17'),
    ('Take 17 of them. So x = 17.| Wait.', '17'),
    ('Of 17 apples. It is **17**.| Wait.', '17'),
    ('x = 17 + 3. So x = 17.| Wait.', '17'),
    ('x = 17*3. So x = 17.| Wait.', '17'),
    ('x = 17 \\times 3. So x = 17.| Wait.', '17'),
    ('x = 20 - 17. Hence 17.| Wait.', '17'),
    ('x = 20 \\cdot 17. Hence 17.| Wait.', '17'),
    ('n >= 17 here. Then n = 17.| Wait.', '17'),
    ('n > 17. Then n = 17.| Wait.', '17'),
    # Parts of other numbers.
    ('Not 170, 317, 17.5, 0.17, 1,017, 17,000, 2/17, 17/2 or x17.', '17'),
    ('Not 1{,}017 or 17{,}000.', '17'),
    ('Not \\frac{1}{17} or 2^{17}.', '17'),
    # Signs.
    ('It is -17.', '17'),
    ('It is \u221217.', '17'),
    ('Of -17 so far. It is -17.| Wait.', '-17'),
    ('It is \u221217.| Wait.', '-17'),
    ('x=-17 so far.| Wait.', '-17'),
    ('It is 17.', '-17'),
    ('Now 20-17 is 3.', '-17'),
    ('Now (1)-17 is it.', '-17'),
    ('Now 20-17 is 3.| Wait.', '17'),
    # Spellings of a number.
    ('It is 1,234.0.| Wait.', '1234'),
    ('It is 1{,}234.| Wait.', '1234'),
    ('It is 1234567.| Wait.', '1,234,567'),
    ('It is 0.50.| Wait.', '.5'),
    ('It is 2.5.| Wait.', '2.50'),
    ('It is 10 or 0.1. So 0.| Wait.', '0'),
    ('It is 0.00.| Wait.', '0'),
    ('It is 2.51 or 12.5.', '2.5'),
    # Other answers, as spelled.
    ('p = \\frac{1}{2}.| Wait.', '\\frac{1}{2}'),
    ('p = 3\\frac{1}{2}.', '\\frac{1}{2}'),
    ('It is 11/2 or 1/23. It is 1/2.| Wait.', '1/2'),
    ('It is x\n+ 1.', 'x+1'),
    ('It is x  + 1.| Wait.', 'x + 1'),
    ('It is Monday.| Wait.', 'Monday'),
    ('It is (2, 3).| Wait.', '(2, 3)'),
    # Nothing to look for, or nowhere.
    ('It is 17.', ''),
    ('It is 17.', ' $ $ '),
    ('It is -.', '-'),
    ('', '17'),
  ],
)
def test_answer_prefix(marked, gold):
  text = marked.replace('|', '')
  expected = marked.index('|') if '|' in marked else -1
  if '\u2212' in marked and expected > 0:
    expected += 2  # the minus has three bytes
  for rest in ('', '</think>\\boxed{17}'):
    response = respond(text + rest, gold)
    found = measures.answer_prefix(response, separator=SENTENCES)
    assert found == expected


def test_answer_prefix_of_chain_arithmetic():
  # 28 is where it starts, an operand, a slip's neighbour and then the result.
  thinking = ' a:28-5=23 b:23+6=29 Wait, b:23+5=28 Again: a:28-5=23 b:23+5=28'
  response = respond(f'{thinking}</think>\\boxed{{28}}', '28', tiny.tokenizer())
  found = measures.answer_prefix(response, separator=' ')
  text = response.tokenizer.decode(response.ids[: int(found)])
  assert text == ' a:28-5=23 b:23+6=29 Wait, b:23+5=28'


def test_answer_prefix_equals_the_loops():
  found = []
  for problem, response in traces():
    found.append(measures.answer_prefix(response, separator=' '))
    assert found[-1] == expected_measures.answer_prefix(response, ' ')
    if found[-1] >= 0:
      text = response.tokenizer.decode(response.ids[: int(found[-1])])
      assert text.endswith(f'={problem.answer}')
  assert any(count < 0 for count in found)  # chains that went wrong
  cut = [
    count < response.thinking_length
    for count, (_, response) in zip(found, traces(), strict=True)
    if count >= 0
  ]
  assert any(cut) and not all(cut)


def test_answer_prefix_does_not_split_a_character():
  # Each of the three characters has three bytes; a part decodes to one too.
  text = 'so \u65e5\u672c\u8a9e'
  response = respond(f'{text}\nWait.', '\u65e5\u672c\u8a9e')
  found = measures.answer_prefix(response, separator='\n')
  assert found == len(text.encode()) == 12


def test_answer_prefix_is_at_most_the_thinking():
  # A token of which the tag has a part too does not belong to the thinking.
  class Merged(Bytes):
    def decode(self, ids):
      return super().decode(ids).replace('#', '17</think>')

  response = measures.Response(
    text='= 17</think>',
    ids=Bytes().encode('= #'),
    thinking='= 17',
    thinking_length=2,
    gold='17',
    correct=True,
    tokenizer=Merged(),
  )
  assert measures.answer_prefix(response, separator='\n') == 2


# --- mistakes ---


@pytest.mark.parametrize('text', ['', 'text'])
@pytest.mark.parametrize('gold', ['', '1'])
@pytest.mark.parametrize(
  'measure',
  [measures.paragraphs, measures.longest_paragraph, measures.answer_prefix],
)
@pytest.mark.parametrize(
  ('separator', 'message'),
  [
    ('', "separator = '': give a regular expression, such as '\\n'"),
    (
      '(',
      "separator = '(': missing ), unterminated subpattern at position 0; give "
      'a regular expression',
    ),
  ],
)
def test_bad_separators_are_named(measure, gold, text, separator, message):
  with pytest.raises(UserError) as error:
    measure(respond(text, gold), separator=separator)
  assert str(error.value) == message


def test_find():
  rollouts = reference.rollouts(
    correct=[[1, 0]], length=[[1, 1]], measures={'paragraphs': [[3, 4]]}
  )
  np.testing.assert_array_equal(
    measures.find(rollouts, 'paragraphs', 'reader'), [[3, 4]]
  )
  with pytest.raises(UserError) as error:
    measures.find(rollouts, 'answer_prefix', 'reader')
  assert str(error.value) == (
    "config.objective.reader: reads the measure 'answer_prefix', and those "
    'taken are paragraphs; add it to config.objective.measures'
  )
