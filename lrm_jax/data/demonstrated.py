"""Right responses to the problems of a run, given and not sampled.

`load` reads them. The path is a .jsonl of `id` and `response` (what follows the
prompt, without an end-of-sequence token), or `chain_arithmetic`, which has the
shortest trace of each of its problems.
"""

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable

from lrm_jax import assets, jsonl
from lrm_jax.data.synthetic import chain_arithmetic
from lrm_jax.errors import UserError
from lrm_jax.structs import Problem
from lrm_jax.tokenization.base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Demonstrations:
  """Responses by problem.

  Attributes:
    of: `problem -> ids`, end-of-sequence included; None where there is none.
    digest: SHA-256 of the rows of a file; that of none for generated ones.
  """

  of: Callable[[Problem], list[int] | None]
  digest: str


def load(path: str, tokenizer: Tokenizer, max_tokens: int) -> Demonstrations:
  """Reads demonstrations.

  Args:
    path: see above.
    tokenizer: encodes them.
    max_tokens: room for a response.

  Raises:
    UserError: no such file, rows without those keys, or a response that is
      longer than the room; a generated one says so when it is asked for.
  """

  def encode(text: str, name: str) -> list[int]:
    ids = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
    if len(ids) > max_tokens:
      raise UserError(
        f'data.demonstrations: that of {name} has {len(ids)} tokens; '
        f'train.max_tokens allows {max_tokens}; raise it or leave it out'
      )
    return ids

  digest = hashlib.sha256()
  if path == 'chain_arithmetic':
    of = lambda problem: encode(_shortest(problem), problem.id)
    return Demonstrations(of, digest.hexdigest())
  kinds = {'id': (str, int), 'response': (str,)}
  rows = jsonl.read_rows(assets.resolve_file(path), kinds)
  if not rows:
    raise UserError(f'{path}: has no rows; give at least one')
  found = {}
  for row in rows:
    name = str(row['id'])
    found[name] = encode(row['response'], name)
    digest.update(json.dumps([name, row['response']]).encode() + b'\n')
  return Demonstrations(
    lambda problem: found.get(problem.id), digest.hexdigest()
  )


def _shortest(problem: Problem) -> str:
  return chain_arithmetic.trace(
    problem, chain_arithmetic.SHORTEST, random.Random(0)
  )
