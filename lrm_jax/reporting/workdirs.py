"""What the folders of runs and of evaluations hold, as a report reads it.

A folder may be of a run that is under way, was stopped or never evaluated:
what is not there is empty. What is there and damaged is an error.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_jax import jsonl, storage
from lrm_jax.errors import UserError

_STEP_FILE = re.compile(r'step_(\d{1,12})\.jsonl\.gz')
_STEP_NAME = re.compile(r'step_(\d{1,12})')
# Of an evaluation: those that must be numbers, and those that may be null.
_NUMBERS = ('accuracy', 'response_tokens')
_MOST_STEPS = 10**12
_MAYBE = (
  *('thinking_tokens', 'truncated', 'tokens_per_correct', 'accuracy_se'),
  *('response_tokens_correct', 'response_tokens_wrong', 'unverified'),
)

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One evaluation of a model.

  Attributes:
    label: `before`, `after`, `step_000010`, or `evaluation` of `lrm eval`.
    step: after which it was made; None of `lrm eval`.
    numbers: name -> value, NaN for what is unknown; fractions in [0, 1],
      lengths in tokens.
    rows: the file of its responses; None where it has none.
    settings: what was asked, see `evaluation.settings`; None where an earlier
      version wrote it.
  """

  label: str
  step: int | None
  numbers: Mapping[str, float]
  rows: storage.Path | None
  settings: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Run:
  """A run of `lrm train` or `lrm sft`, or an evaluation of `lrm eval`.

  Attributes:
    name: short, its own among those of a report.
    folder: where it is.
    verb: `train`, `sft` or `eval`.
    config: the resolved one of a run, the settings of an evaluation.
    metrics: rows of metrics.jsonl.
    evaluations: by their step; `before` first and `after` last.
    rollouts: (step, file) of the rollouts of training, by step.
    is_finished: whether it has a summary.
  """

  name: str
  folder: storage.Path
  verb: str
  config: Mapping[str, Any]
  metrics: Sequence[Row]
  evaluations: Sequence[Evaluation]
  rollouts: Sequence[tuple[int, storage.Path]]
  is_finished: bool

  def evaluation(self, label: str) -> Evaluation | None:
    """That of a label, if it was made."""
    found = [e for e in self.evaluations if e.label == label]
    return found[0] if found else None

  @property
  def first(self) -> Evaluation | None:
    """The model before the run."""
    return self.evaluation('before')

  @property
  def last(self) -> Evaluation | None:
    """The newest model that was evaluated, but for the one before the run."""
    found = [e for e in self.evaluations if e.label != 'before']
    return found[-1] if found else None

  @property
  def newest(self) -> Evaluation | None:
    """That of the newest model, which may be the one before the run."""
    return self.first if self.last is None else self.last


def read_all(folders: Sequence[str]) -> list[Run]:
  """The runs of some folders, in their order.

  Args:
    folders: of `lrm train`, `lrm sft` or `lrm eval`; here or in buckets.

  Raises:
    UserError: one is none of these, is given twice, or holds a damaged file.
  """
  paths = [path for text in folders for path in _parts(storage.as_path(text))]
  whole = [_whole(path) for path in paths]
  for place, path in enumerate(whole):
    if path in whole[:place]:
      raise UserError(f"'{paths[place]}' is given twice; give each DIR once")
  names = _names(whole)
  return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def column(
  rows: Sequence[Row], key: str, by: str = 'step'
) -> tuple[list[float], list[float]]:
  """(steps, values) of the rows that have a finite number of that name."""
  pairs = [
    (float(row[by]), float(row[key]))
    for row in rows
    if is_finite(row, by) and is_finite(row, key)
  ]
  return [x for x, _ in pairs], [y for _, y in pairs]


def is_finite(row: Row, key: str) -> bool:
  """Whether a row has a number of that name, not NaN and not an infinity."""
  if key not in row or type(row[key]) not in (int, float):
    return False
  # A whole number of JSON may be larger than any float.
  return abs(row[key]) < 1e300


def _parts(path: storage.Path) -> list[storage.Path]:
  """The folder itself, or those in it of an evaluation on several data sets."""
  with storage.explained(path):
    summary = _json(path / 'summary.json') if path.is_dir() else None
    if summary is None or _verb(summary) != 'eval' or 'sets' not in summary:
      return [path]
    inner = sorted(child for child in path.iterdir() if child.is_dir())
    found = [child for child in inner if (child / 'summary.json').exists()]
    return found if found else [path]


def _whole(path: storage.Path) -> str:
  return str(path if storage.is_remote(path) else path.resolve())


def _names(paths: Sequence[str]) -> list[str]:
  """The last parts of paths, as many as tell each from all others."""
  parts = [path.rstrip('/').split('/') for path in paths]
  for count in range(1, max(map(len, parts)) + 1):
    names = ['/'.join(part[-count:]) for part in parts]
    if len(set(names)) == len(names):
      break
  return names


def _read(folder: storage.Path, name: str) -> Run:
  with storage.explained(folder):
    if not folder.is_dir():
      raise UserError(
        f"'{folder}': no such folder; give the --workdir of lrm train or lrm "
        'eval'
      )
    # A run has a config before anything else, an evaluation never.
    record = _json(folder / 'config.json')
    summary = _json(folder / 'summary.json')
    if record is not None and _is_record(record):
      return _run(folder, name, record, summary is not None)
    if summary is not None and _verb(summary) == 'eval':
      return _evaluated(folder, name, summary)
  raise UserError(
    f"'{folder}': holds neither a run (config.json of lrm train) nor an "
    'evaluation (summary.json of lrm eval); give the --workdir of one'
  )


def _run(
  folder: storage.Path, name: str, record: Row, is_finished: bool
) -> Run:
  metrics: list[dict[str, Any]] = []
  if (folder / 'metrics.jsonl').exists():
    metrics = jsonl.read_growing(folder / 'metrics.jsonl', {'step': (int,)})
  return Run(
    name=name,
    folder=folder,
    verb=record['verb'],
    config=record['config'],
    metrics=metrics,
    evaluations=_evaluations(folder / 'evaluation'),
    rollouts=_steps(folder / 'rollouts'),
    is_finished=is_finished,
  )


def _evaluated(folder: storage.Path, name: str, summary: Row) -> Run:
  rows = folder / 'rollouts.jsonl.gz'
  found = Evaluation(
    label='evaluation',
    step=None,
    numbers=_numbers(folder / 'summary.json', summary),
    rows=rows if rows.exists() else None,
    settings=_settings(summary),
  )
  return Run(
    name=name,
    folder=folder,
    verb='eval',
    config=summary,
    metrics=(),
    evaluations=(found,),
    rollouts=(),
    is_finished=True,
  )


def _evaluations(folder: storage.Path) -> list[Evaluation]:
  found = []
  paths = sorted(folder.iterdir()) if folder.is_dir() else []
  for path in paths:
    is_known = path.stem in ('before', 'after') or _STEP_NAME.fullmatch(
      path.stem
    )
    if path.suffix != '.json' or not is_known:
      continue
    summary = _json(path)
    if summary is None or not _has_step(summary):
      raise UserError(
        f'{path}: not the summary of an evaluation; remove it, and the run '
        'makes it again'
      )
    rows = folder / f'{path.stem}.jsonl.gz'
    found.append(
      Evaluation(
        label=path.stem,
        step=summary['step'],
        numbers=_numbers(path, summary),
        rows=rows if rows.exists() else None,
        settings=_settings(summary),
      )
    )
  order = {'before': 0, 'after': 2}
  place = lambda e: (order[e.label] if e.label in order else 1, e.step)
  return sorted(found, key=place)


def _steps(folder: storage.Path) -> list[tuple[int, storage.Path]]:
  if not folder.is_dir():
    return []
  names = ((_STEP_FILE.fullmatch(path.name), path) for path in folder.iterdir())
  return sorted((int(found[1]), path) for found, path in names if found)


def _json(path: storage.Path) -> dict[str, Any] | None:
  """The object of a file; None where there is no file.

  Raises:
    UserError: it holds no object.
  """
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(
      f'{path}: not JSON as lrm writes it ({reason}); remove or mend it'
    ) from error
  if not isinstance(value, dict):
    raise UserError(f'{path}: holds no JSON object; remove or mend it')
  return value


def _is_record(value: Row) -> bool:
  """Whether that is the config.json of a run, and not that of a model."""
  has_both = 'verb' in value and 'config' in value
  return (
    has_both
    and value['verb'] in ('train', 'sft')
    and isinstance(value['config'], dict)
  )


def _verb(summary: Row) -> Any:
  return summary['verb'] if 'verb' in summary else None


def _settings(summary: Row) -> Row | None:
  has_any = 'settings' in summary and isinstance(summary['settings'], dict)
  return summary['settings'] if has_any else None


def _numbers(path: storage.Path, summary: Row) -> dict[str, float]:
  """The numbers of an evaluation.

  Raises:
    UserError: one that must be there is missing or no number.
  """
  for name in _NUMBERS:
    if not is_finite(summary, name):
      raise UserError(
        f'{path}: {name!r} is missing or no number; remove the file, and '
        'evaluate again'
      )
  return {
    name: float(summary[name]) if is_finite(summary, name) else math.nan
    for name in _NUMBERS + _MAYBE
  }


def _has_step(summary: Row) -> bool:
  is_whole = 'step' in summary and type(summary['step']) is int
  return is_whole and 0 <= summary['step'] < _MOST_STEPS
