"""Guards, by hand: a hit, a near miss, and what a model honestly writes."""

import time

import pytest

from lrm_jax import assets
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from lrm_jax.objectives.measures import Response
from lrm_jax.rewards import guards
from lrm_jax.tokenization import base

QUESTION = (
  'A crate holds twelve jars and every jar weighs three pounds. How many '
  'pounds do five such crates weigh if two jars of each are broken?'
)
# As the tiny model writes it.
HONEST = (
  ' a:59-9=50 Wait, a:59-9=50 b:50+6=56 Wait, b:50+6=56 Wait, b:50+6=56 Wait, '
  'b:50+6=56</think>\\boxed{56}'
)


class Characters:
  """A tokenizer of characters: 0 is padding, 1 ends, the rest are U+1000 on.

  So that every character has a token of its own.
  """

  vocab_size = 2 + 0x3000

  def encode(self, text):
    return [ord(c) + 2 for c in text]

  def decode(self, ids):
    return ''.join(chr(i - 2) for i in ids if i > 1)


def respond(text, question=QUESTION, ids=None):
  tokenizer = Characters()
  return Response(
    text=text,
    ids=[*tokenizer.encode(text), 1] if ids is None else ids,
    thinking=text.partition('</think>')[0],
    thinking_length=0,
    gold='56',
    correct=True,
    tokenizer=tokenizer,
    question=question,
  )


def boxes(*answers):
  return 'x</think>' + ' '.join(rf'\boxed{{{a}}}' for a in answers)


_SENTENCE = 'The five crates weigh one hundred and fifty pounds in the end. '
_OWN = (
  'Each crate loses two jars so ten are left of twelve and those weigh thirty '
  'pounds together which makes one hundred and fifty for five of them.'
)
_CASES = [
  # Five different answers; four, one of them twice, are in parts.
  ('boxed_spam', boxes(1, 2, 3, 4, 5), True),
  ('boxed_spam', boxes(1, 2, 3, 4, 4), False),
  ('boxed_spam', boxes(*[7] * 50), False),
  ('boxed_spam', boxes(1, 2, 3, 4, 5).replace('x</think>', ''), False),
  (
    'boxed_spam',
    boxes(*range(9)).removeprefix('x</think>') + '</think>',
    False,
  ),
  # 25 words with a full stop and a question mark: 27, so 20 runs of 8.
  ('copied_prompt', QUESTION + '</think>56', True),
  ('copied_prompt', 'x</think>' + QUESTION + r' \boxed{56}', True),
  # All 20 runs of the question; then 25 words of its own have as many.
  ('copied_prompt', f'{QUESTION} {_OWN}</think>56', False),
  ('copied_prompt', ' '.join(QUESTION.split()[:20]) + '</think>', False),
  ('copied_prompt', _OWN + '</think>56', False),
  ('empty_thinking', r'</think>\boxed{56}', True),
  ('empty_thinking', ' \n\u200b\u3164\u2800\x00</think>56', True),
  ('empty_thinking', ' . </think>56', False),
  ('empty_thinking', ' \u5341</think>56', False),
  # Nothing was closed: that is another matter.
  ('empty_thinking', '', False),
  # 20 letters: of 200 tokens and the end 170 runs, 20 of them new.
  ('repeated_ngrams', 'abcdefghijklmnopqrst' * 10, True),
  # 100 letters twice, and the end: 170 runs, 101 of them new.
  ('repeated_ngrams', ''.join(map(chr, range(200, 300))) * 2, False),
  ('repeated_ngrams', 'a' * 126, False),
  ('repeated_ngrams', 'a' * 127, True),
  ('over_reported', 'word' + ' ' * 12, True),
  ('over_reported', 'word' + '\u200b\u2060\u00ad' * 4, True),
  # 8 of 16 tokens show something, the end among the others.
  ('over_reported', 'eightabc' + ' ' * 7, False),
  ('over_reported', 'a b c d e f g h i j', False),
  ('over_reported', ' ' * 14, False),
]


@pytest.mark.parametrize('name, text, hit', _CASES)
def test_by_hand(name, text, hit):
  assert guards.GUARDS[name](respond(text)) is hit


@pytest.mark.parametrize(
  'inside, hit',
  [
    # 100 tokens of text and the end.
    ([], False),
    ([0], False),
    ([0, 0], False),  # 2 of 102 are less than 2 %.
    ([0, 0, 0], True),  # 3 of 103.
    ([0, 1, 10**6], True),  # An early end; an id that no text has.
  ],
)
def test_tokens_that_no_text_shows(inside, hit):
  text = 'abcdefghij' * 10
  ids = [*Characters().encode(text), 1]
  ids[50:50] = inside

  class Clipped(Characters):
    """As ours: ids outside the vocabulary have no text."""

    def decode(self, ids):
      return super().decode([i for i in ids if i < self.vocab_size])

  response = respond(text, ids=ids)
  object.__setattr__(response, 'tokenizer', Clipped())
  assert guards.under_reported(response) is hit
  # Padding behind the text is inside the response all the same.
  assert guards.under_reported(respond('ab', ids=[99, 100, 0, 0, 1]))


def test_every_guard_has_a_hit_and_a_miss():
  seen = {(name, hit) for name, _, hit in _CASES}
  seen |= {('under_reported', True), ('under_reported', False)}
  assert seen == {(n, hit) for n in guards.GUARDS for hit in (True, False)}


def test_what_the_tiny_model_writes_is_none_of_it():
  tokenizer = base.load(assets.resolve('tiny_lrm'))
  problem = chain_arithmetic.make_problem(7)
  for text in (HONEST, HONEST.replace('</think>', '')):
    response = Response(
      text=text,
      ids=[*tokenizer.encode(text), tokenizer.eos_ids[0]],
      thinking=text.partition('</think>')[0],
      thinking_length=0,
      gold='56',
      correct=True,
      tokenizer=tokenizer,
      question=problem.question,
    )
    hits = [name for name, guard in guards.GUARDS.items() if guard(response)]
    assert hits == []


@pytest.mark.parametrize('text', ['', '\x00', '\ud800', '</think>', ' ' * 40])
def test_any_text_has_an_answer(text):
  for guard in guards.GUARDS.values():
    for question in ('', QUESTION, text):
      assert guard(respond(text, question)) in (True, False)
  for ids in ([], [0], [1] * 200):
    assert all(
      guard(respond(text, ids=ids)) in (True, False)
      for guard in guards.GUARDS.values()
    )


@pytest.mark.parametrize(
  'text',
  [
    'word ' * 200_000,
    r'\boxed{' * 100_000,
    '\u200b' * 500_000,
    '</think>' * 9999,
  ],
)
def test_time_is_linear(text):
  response = respond(text, question=text[:100_000])
  start = time.process_time()
  for guard in guards.GUARDS.values():
    guard(response)
  # A million tokens; a step's worth of the quickstart has 25 thousand.
  assert time.process_time() - start < 10


def test_an_unknown_guard_is_refused():
  assert guards.check(['boxed_spam']) == ('boxed_spam',)
  with pytest.raises(
    UserError, match="no guard 'spam'; choose from boxed_spam"
  ):
    guards.check(['spam'])
