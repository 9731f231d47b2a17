"""Scalars for TensorBoard, written by whoever adds them.

The writer of tensorboardX hands events to a thread, and waits for ever for a
thread that a full disk has ended. Here the error is raised where it happens.
"""

import pathlib
import time
from collections.abc import Mapping

from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2


class EventFile:
  """A new file of events in a folder.

  Args:
    folder: is made where there is none.
    first_step: what the folder has of this step and later ones does not count.
  """

  def __init__(self, folder: pathlib.Path, first_step: int):
    folder.mkdir(parents=True, exist_ok=True)
    self._writer = event_file_writer.EventsWriter(
      # Two starts within one second must not share a file.
      str(folder / 'events'),
      f'.{first_step}',
    )
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(first_step, session_log=log)

  def add(self, step: int, values: Mapping[str, float]) -> None:
    """Finite numbers of a step, by name."""
    scalar = summary_pb2.Summary.Value
    found = [scalar(tag=k, simple_value=v) for k, v in values.items()]
    self._write(step, summary=summary_pb2.Summary(value=found))

  def flush(self) -> None:
    """Everything is in the file."""
    self._writer.flush()

  def close(self) -> None:
    """No more events follow."""
    self._writer.close()

  def _write(self, step: int, **what) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, **what)
    self._writer.write_event(event)
