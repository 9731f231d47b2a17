"""Programs that are compiled while something else goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Ahead:
  """A jitted function, compiled in a thread for arguments it will be given.

  Calls with other shapes are those of the function itself.
  """

  def __init__(self, function: Callable[..., Any]):
    """Nothing is compiled yet."""
    self._function = function
    self._compiled: dict[Any, Future] = {}

  def start(self, *args: Any) -> None:
    """Compiles for arguments like these; only their shapes are looked at."""
    shapes = jax.tree.map(_shape, args)
    compile_it = lambda: self._function.lower(*shapes).compile()
    threads = ThreadPoolExecutor(1)
    self._compiled[_key(args)] = threads.submit(compile_it)
    threads.shutdown(wait=False)

  def __call__(self, *args: Any) -> Any:
    """The function; waits for the compiler where it is at work on this."""
    compiled = self._compiled.get(_key(args))
    return (self._function if compiled is None else compiled.result())(*args)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
  # Results of a program whose arguments were committed to devices are too, and
  # whoever takes them next would be compiled again.
  is_committed = isinstance(x, jax.Array) and x.committed
  sharding = x.sharding if is_committed else None
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _key(args: Any) -> Any:
  leaves, structure = jax.tree.flatten(args)
  return structure, tuple((x.shape, x.dtype) for x in leaves)
