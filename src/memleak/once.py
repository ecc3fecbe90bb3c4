"""A property that is computed at first use.

Not functools.cached_property: before Python 3.12 that takes a lock, one for all instances. A child forked while another
thread computes would wait for it for ever.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class once(Generic[Value]):
    """Replace itself by the value, in the instance. Two threads may both compute it."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        """Take the method that computes the value."""
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Value:
        """Compute, and keep it."""
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
