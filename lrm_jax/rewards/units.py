r"""Units and counted things behind numbers, which are not compared.

`5.4 \text{ cents}` is 5.4 and `18 eggs` is 18. But `3 eighths` is not 3, nor
is `0.3 repeating` 0.3 or `5 at least` 5, and words that change or hedge a
number cannot all be listed. So what may be dropped is listed instead: units of
measure, and the things that problems count. Behind any other word the number
stays as it is written, and equals only what is spelled the same. A right answer
with a rare unit may so be lost; a wrong one does not pass.
"""

import re

_TEXT_UNIT = re.compile(
  r'(.*(?:[0-9}]|\\pi|\\circ))(?:\\[ ,;:!]|[\s~])*'
  r'\\(?:text(?:bf|it|rm|normal)?|mbox|mathrm)\s*\{([A-Za-z~/.\s]*)\}'
  r'\s*(\^\{?[23]\}?)?',
  re.DOTALL,
)
_PLAIN_UNIT = re.compile(r'(.*[0-9}])\s+([A-Za-z][A-Za-z ./]*)', re.DOTALL)
_SCALES = re.compile(r'.*\\circ\s*\}?', re.DOTALL)

# Spelled exactly so: upper case would be mega, million or a variable. The last
# line holds in upright type alone: the `m` of `6 m` may be a variable.
_SHORT = frozenset(
  'cm mm km kg mg ft in mi lb lbs oz ml mL yd hr hrs min am pm AM PM mph '
  'kph kmh rpm cc KB MB GB TB USD EUR GBP sq cu kWh Hz kHz MHz kPa kJ'.split()
)
_UPRIGHT = frozenset('m s g h L'.split())
_LENGTHS = frozenset(
  'cm mm km m ft in mi yd meter metre centimeter centimetre millimeter '
  'millimetre kilometer kilometre foot feet inch yard mile unit'.split()
)
_MEASURES = frozenset(
  (
    'acre hectare liter litre milliliter millilitre gallon quart pint cup '
    'ounce tablespoon teaspoon bushel gram kilogram kilo milligram pound ton '
    'tonne second minute hour day week month year decade night degree radian '
    'celsius fahrenheit kelvin dollar cent euro buck penny pennies yen rupee '
    'peso coin bit byte kilobyte megabyte gigabyte terabyte knot volt watt '
    'kilowatt joule newton hertz pascal calorie kilocalorie'
  ).split()
)
# What the questions of GSM8K and MATH count, and what golds of the latter do.
_COUNTED = frozenset(
  (
    # In mathematics.
    'way value integer number digit solution triangle rectangle polygon circle '
    'side edge vertex vertices diagonal angle term element subset set sequence '
    'permutation combination arrangement possibility outcome path route '
    'divisor matrix matrices function polynomial step move game '
    'match handshake committee password license plate dap region segment '
    # People and animals.
    'person people child kid boy girl man men woman women student teacher '
    'friend player member parent adult customer passenger employee worker '
    'guest voter vote baby babies animal dog cat bird fish chicken cow sheep '
    'goat duck rabbit horse pig turtle frog lion shark puppy puppies kitten '
    'bee ant insect bug butterfly spider goldfish guppy guppies '
    # Food.
    'apple orange banana peach pear plum grape lemon mango cherry strawberry '
    'berry watermelon potato tomato carrot onion vegetable fruit egg slice '
    'cookie cake cupcake pie pizza sandwich muffin brownie doughnut donut '
    'pancake hotdog hamburger burger biscuit cracker candy candies sweet '
    'chocolate marshmallow jellybean lollipop gumball popsicle meal dessert '
    'loaf loaves serving nut seed '
    # Things.
    'item object piece thing book page chapter novel magazine newspaper paper '
    'sheet notebook letter word pen pencil crayon marker eraser sticker stamp '
    'card ticket photo picture painting poster movie song episode toy doll '
    'ball marble balloon block brick tile bead button bracelet necklace ring '
    'earring shirt dress dresses shoe sock hat scarf scarves towel coat jean '
    'box bag pack package packet can jar bottle glass mug bowl plate basket '
    'crate carton container bucket barrel case envelope gift present candle '
    'car truck bus bike bicycle boat train plane wheel tire trip flight lap '
    'chair table desk seat bed room house home building floor window door wall '
    'tree plant flower rose tulip daisy bush leaf leaves petal stick stone '
    'pebble rock shell seashell star light machine phone computer email '
    'message question problem answer test class lesson session group team row '
    'column line batch load pill tablet key bone feather wing '
    'leg eye head teeth tooth dice'
  ).split()
)
# Their singular would say something else: 5 point, 5 score.
_PLURALS = frozenset('points goals runs'.split())
_BEFORE = frozenset('square cubic sq cu distinct different right total'.split())
_POWERS = frozenset(('squared', 'cubed'))
_NOUNS = _MEASURES | _COUNTED | _LENGTHS
# `square units per hour of work` is as long as they get.
_MAX_WORDS = 5


def strip_unit(text: str) -> str:
  r"""Drops the unit behind a number: `5.4 \text{ cents}`, `5.4 cents`.

  Args:
    text: an answer.

  Returns:
    What is before the unit, or the text where it ends in none that is known.
  """
  text = text.strip()
  match = _TEXT_UNIT.fullmatch(text)
  is_upright = match is not None
  if not is_upright:
    match = _PLAIN_UNIT.fullmatch(text)
  if match is None or not re.search('[0-9]', match[1]):
    return text
  words = match[2].replace('.', '').replace('/', ' per ').replace('~', ' ')
  words = words.split()
  if is_upright and words in (['C'], ['F']) and _SCALES.fullmatch(match[1]):
    return match[1]
  power = match[3] if is_upright else None
  return match[1] if _is_unit(words, is_upright, power) else text


def _is_unit(words: list[str], is_upright: bool, power: str | None) -> bool:
  """Whether words are a unit; `power`, an exponent behind them or None."""
  if not 0 < len(words) <= _MAX_WORDS:
    return False
  parts = [part.split() for part in ' '.join(words).split(' per ')]
  if len(parts) > 2:
    return False
  # No variable is in `km/h`.
  is_upright = is_upright or len(parts) == 2
  is_length = False
  for part in parts:
    if part and part[-1] in _POWERS and len(part) > 1:
      part = part[:-1]
      if not _is_length(part[-1]):
        return False
    if len(part) == 3 and part[1] == 'of' and _is_noun(part[0], is_upright):
      part = part[2:]
    while len(part) > 1 and part[0].lower() in _BEFORE:
      part = part[1:]
    # `degrees Celsius` are two.
    if len(part) == 2 and part[0].lower() in ('degree', 'degrees'):
      part = part[1:]
    if len(part) != 1 or not _is_noun(part[0], is_upright):
      return False
    is_length = _is_length(part[0]) or (len(parts) == 2 and part[0] == 's')
  return power is None or is_length


def _is_noun(word: str, is_upright: bool) -> bool:
  if word in _SHORT or (is_upright and word in _UPRIGHT):
    return word not in ('sq', 'cu')
  if len(word) < 3:
    return False
  return word.lower() in _PLURALS or not _NOUNS.isdisjoint(_singulars(word))


def _is_length(word: str) -> bool:
  return word in _LENGTHS or (
    len(word) > 2 and not _LENGTHS.isdisjoint(_singulars(word))
  )


def _singulars(word: str) -> set[str]:
  """What a word of three letters or more may be the plural of, and itself."""
  word = word.lower()
  found = {word}
  if word.endswith('s'):
    found.add(word[:-1])
  if word.endswith('es'):
    found.add(word[:-2])
  if word.endswith('ies'):
    found.add(f'{word[:-3]}y')
  return found
