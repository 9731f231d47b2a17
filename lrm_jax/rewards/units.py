"""Units behind numbers, which are not compared."""

import re

_TEXT_UNIT = re.compile(
  r'(.*(?:[0-9}]|\\pi|\\circ))(?:\\[ ,;:!]|[\s~])*'
  r'\\(?:text(?:bf|it|rm|normal)?|mbox|mathrm)\s*\{([A-Za-z~/.\s-]*)\}'
  r'\s*(?:\^\{?[0-9]\}?)?',
  re.DOTALL,
)
_PLAIN_UNIT = re.compile(r'(.*[0-9}])\s+([A-Za-z][A-Za-z .]*)', re.DOTALL)
_SHORT_UNITS = frozenset(
  'cm mm km kg mg ft in mi lb oz ml hr am pm per of'.split()
)
# Hedges, words that change a number, and letters that are numbers or variables
# even in upright type.
_NO_UNITS = frozenset(
  (
    'and or nor xor not no but if is are was either neither unless except vs '
    'versus maybe perhaps possibly probably approximately approx about roughly '
    'around nearly almost wrong incorrect false invalid '
    'half halves third thirds quarter quarters tenth tenths hundredths '
    'thousandths dozen dozens score hundred hundreds thousand thousands '
    'million millions billion billions trillion trillions double twice triple '
    'percent point plus minus over mod modulo negative factorial infinity '
    'zero one two three four five six seven eight nine ten eleven twelve '
    'thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty '
    'thirty forty fifty sixty seventy eighty ninety i j e x y z n k'
  ).split()
)
# `3 squared` is 9, `3 feet squared` an area.
_POWERS = frozenset(('squared', 'cubed'))


def strip_unit(text: str) -> str:
  r"""Drops the unit behind a number: `5.4 \text{ cents}`, `5.4 cents`.

  Plain units are words of three letters or a few known shorter ones, since
  the `m` of `6 m` may be a variable.
  """
  text = text.strip()
  match = _TEXT_UNIT.fullmatch(text)
  is_unit = match is not None
  if not is_unit:
    match = _PLAIN_UNIT.fullmatch(text)
    is_unit = match is not None and all(
      len(word) > 2 or word.lower() in _SHORT_UNITS
      for word in match[2].replace('.', '').split()
    )
  if not is_unit or not re.search('[0-9]', match[1]):
    return text
  words = match[2].lower().split()
  is_unit = _NO_UNITS.isdisjoint(words) and not _POWERS.issuperset(words[:1])
  return match[1] if is_unit else text
