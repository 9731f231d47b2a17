"""`lrm sample`: responses to one question or to a JSON Lines file of prompts.

  {"id": ..., "question": ...}    the prompt template of the model is applied
  {"id": ..., "prompt": ...}      raw text, encoded as it is
  {"id": ..., "prompt_ids": ...}  token ids

A row without `id` gets its number, counted from 0. Each gives n rows with id,
sample, prompt_ids, response, response_ids, logp, length, thinking_length and
truncated; its other fields, such as `answer`, are carried along for
`lrm grade`.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from lrm_jax import compilation, jsonl, metrics, records, rng, storage, workdir
from lrm_jax.commands import loading, output
from lrm_jax.data import prompts
from lrm_jax.errors import UserError
from lrm_jax.sampler.engine import Sampler
from lrm_jax.sampler.session import Session

# Responses per prompt where --n is not given.
_N_PROMPT, _N_INPUT = 1, 8
_SOURCES = {'question': str, 'prompt': str, 'prompt_ids': list}


@dataclasses.dataclass(frozen=True)
class _Request:
  """One prompt.

  Attributes:
    id: as the input states it; its text names the random stream.
    prompt_ids: at least one token id.
    fields: what is carried along.
  """

  id: str | int
  prompt_ids: list[int]
  fields: dict[str, Any]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Adds the flags of the verb."""
  loading.define_flags(flag_values)
  flags.DEFINE_string('prompt', None, 'One question to answer.', flag_values)
  flags.DEFINE_string(
    'input',
    None,
    'JSON Lines file (.gz too); each row has question, prompt (raw text) or '
    'prompt_ids, and may have id.',
    flag_values,
  )
  flags.DEFINE_string(
    'output',
    None,
    'JSON Lines file to write, n rows for each prompt; summary.json goes '
    'beside it. May be left out with --prompt.',
    flag_values,
  )
  flags.DEFINE_integer(
    'n',
    None,
    f'Responses per prompt (default: {_N_PROMPT} with --prompt, {_N_INPUT} '
    'with --input).',
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'max_tokens',
    256,
    'Response tokens at most.',
    lower_bound=1,
    flag_values=flag_values,
  )


def run(flag_values: flags.FlagValues) -> None:
  """Samples responses; prints them, or writes --output and summary.json.

  Args:
    flag_values: parsed flags of `define_flags`.

  Raises:
    UserError: flags that do not go together, a model or file that cannot be
      read or written, a row without a prompt, or a prompt that does not fit.
      Nothing is written then.
  """
  begin = time.monotonic()
  target = _check_flags(flag_values)
  is_single = flag_values.prompt is not None
  inputs = [{'question': flag_values.prompt}]
  if not is_single:
    inputs = jsonl.read_rows(flag_values.input)
  inputs = _checked('--prompt' if is_single else flag_values.input, inputs)
  model = loading.load(flag_values)
  requests = [_encode(where, row, model, flag_values) for where, row in inputs]
  width = loading.prompt_width(
    model.config,
    {f'id {request.id}': request.prompt_ids for request in requests},
    flag_values.max_tokens,
  )
  samples = flag_values.n
  if samples is None:
    samples = _N_PROMPT if is_single else _N_INPUT
  sampler = loading.make_sampler(
    model, flag_values, samples=samples, prompts=len(requests), width=width
  )
  watch, started = compilation.CompileWatch(), time.monotonic()
  rows = _sample(model, sampler, requests, width, flag_values)
  seconds = time.monotonic() - started
  if target is None:
    _print_responses(rows)
    return
  summary = _summarize(rows, seconds, watch.seconds)
  summary['seconds'] = time.monotonic() - begin
  storage.make_folder(target.parent)
  jsonl.write_rows(target, rows)
  path = workdir.write_summary(target.with_name('summary.json'), summary)
  print(_describe(summary))
  print(f'wrote {target} and {path}')


def _check_flags(flag_values: flags.FlagValues) -> storage.Path | None:
  """Returns where to write; None to print."""
  loading.check_temperature(flag_values)
  is_single = flag_values.prompt is not None
  if is_single == (flag_values.input is not None):
    what = 'both --prompt and --input' if is_single else 'no prompt'
    raise UserError(f'received {what}; give --prompt=TEXT or --input=FILE')
  if flag_values.output is None:
    if is_single:
      return None
    raise UserError('--output is missing; --input needs a file to write to')
  return output.output_file(flag_values.output)


def _checked(
  source: str, rows: Sequence[dict[str, Any]]
) -> list[tuple[str, dict[str, Any]]]:
  """(place for messages, row) with an id and one well-formed prompt each."""
  if not rows:
    raise UserError(f'{source}: has no rows; each row is one prompt')
  checked, seen = [], {}
  for number, row in enumerate(rows):
    where = source if len(rows) == 1 else f'{source}: row {number + 1}'
    row = {'id': number} | row
    name = row['id']
    if type(name) not in (str, int) or str(name) in seen:
      earlier = f', as of row {seen[str(name)]}' if str(name) in seen else ''
      raise UserError(
        f'{where}: id is {name!r}{earlier}; ids are texts or integers, each '
        'given once: they name the random stream of a prompt'
      )
    seen[str(name)] = number + 1
    _check_prompt(where, row)
    checked.append((where, row))
  return checked


def _check_prompt(where: str, row: dict[str, Any]) -> None:
  found = [field for field in _SOURCES if field in row]
  if len(found) != 1:
    raise UserError(
      f'{where}: has {" and ".join(found) if found else "no prompt"}; a row '
      'needs one of question, prompt and prompt_ids'
    )
  (field,) = found
  if not isinstance(row[field], _SOURCES[field]):
    kind = 'an array of token ids' if field == 'prompt_ids' else 'a text'
    raise UserError(f'{where}: {field} is {row[field]!r}; it must be {kind}')
  try:
    f'{row["id"]}{row[field]}'.encode()
  except UnicodeEncodeError as error:  # JSON can escape half a character.
    raise UserError(
      f'{where}: id or {field} has half a surrogate pair; escape the whole '
      'character'
    ) from error


def _encode(
  where: str,
  row: dict[str, Any],
  model: loading.Model,
  flag_values: flags.FlagValues,
) -> _Request:
  if 'question' in row:
    ids = prompts.encode_prompt(
      model.tokenizer, row['question'], flag_values.instruction
    )
  elif 'prompt' in row:
    ids = model.tokenizer.encode(row['prompt'])
  else:
    ids = row['prompt_ids']
  if not ids:
    raise UserError(f'{where}: the prompt has no tokens; it needs at least one')
  for token in ids:
    if type(token) is not int or not 0 <= token < model.config.vocab_size:
      raise UserError(
        f'{where}: {token!r} is no token id; ids are integers in '
        f'[0, {model.config.vocab_size})'
      )
  fields = {key: row[key] for key in row if key not in _SOURCES}
  return _Request(row['id'], ids, fields)


def _sample(
  model: loading.Model,
  sampler: Sampler,
  requests: Sequence[_Request],
  width: int,
  flag_values: flags.FlagValues,
) -> list[dict[str, Any]]:
  """The output rows, in the order of the requests."""
  key = rng.stream(flag_values.seed, 'sample')
  rows, done = [], 0

  def add(session: Session, part: Sequence[_Request]) -> int:
    ids = np.full((len(part), width), model.tokenizer.pad_id, np.int32)
    for b, request in enumerate(part):
      ids[b, : len(request.prompt_ids)] = request.prompt_ids
    return sampler.add(
      session,
      ids,
      np.array([len(request.prompt_ids) for request in part], np.int32),
      problem_ids=[str(request.id) for request in part],
      caps=flag_values.max_tokens,
      key=key,
      temperature=flag_values.temperature,
      budgets=loading.thinking_budget(flag_values),
    )

  with (
    metrics.Progress(len(requests), 'sample') as progress,
    sampler.open(model.params) as session,
  ):
    starts = range(0, len(requests), sampler.groups)
    parts = [requests[i : i + sampler.groups] for i in starts]
    numbers = [add(session, part) for part in parts]
    for part, number in zip(parts, numbers, strict=True):
      samples = session.wait(number)
      for b, g in np.ndindex(samples.length.shape):
        rows.append(
          part[b].fields
          | {'id': part[b].id, 'sample': g}
          | records.sample_row(
            model.tokenizer,
            part[b].prompt_ids,
            samples.response_ids[b, g, : samples.length[b, g]],
            samples.logp[b, g, : samples.length[b, g]],
            samples.thinking_length[b, g],
            samples.truncated[b, g],
          )
        )
      done += len(part)
      progress.update(done, {'tokens': samples.length.mean()})
  return rows


def _summarize(
  rows: Sequence[dict[str, Any]], seconds: float, compile_seconds: float
) -> dict[str, Any]:
  """Means over all rows; lengths in tokens."""
  tokens = sum(row['length'] for row in rows)
  return {
    'verb': 'sample',
    'rows': len(rows),
    'response_tokens': tokens / len(rows),
    'thinking_tokens': sum(r['thinking_length'] for r in rows) / len(rows),
    'truncated': sum(row['truncated'] for row in rows) / len(rows),
  } | loading.speed(tokens, seconds, compile_seconds)


def _describe(summary: dict[str, Any]) -> str:
  return (
    f'{summary["rows"]} responses of {summary["response_tokens"]:.1f} tokens, '
    f'thinking {summary["thinking_tokens"]:.1f}, {summary["truncated"]:.1%} '
    f'truncated, in {summary["seconds"]:.1f} s'
  )


def _print_responses(rows: Sequence[dict[str, Any]]) -> None:
  for row in rows:
    print(printable(row['response']))
    note = ', truncated' if row['truncated'] else ''
    print(
      f'response: {row["length"]} tokens, thinking '
      f'{row["thinking_length"]}{note}'
    )


def printable(text: str) -> str:
  """The text of a model without what could steer a terminal."""
  return ''.join(
    c if c.isprintable() or c in '\n\t' else '\N{REPLACEMENT CHARACTER}'
    for c in text
  )
