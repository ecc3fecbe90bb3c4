"""Say how much business there is: `gauge("open_tables").set(1200)`, so that memory can be told per unit of it.

A gauge is a name and a whole number. Where the core is in the process it keeps the value; until then it is kept here
and handed over when tracing begins. Setting one never fails for want of tracing.
"""

from __future__ import annotations

import os
from _thread import RLock

from . import _native
from .errors import CoreError
from .names import GAUGE_RULE, is_gauge_name

TYPE_CHECKING = False  # a service loads this module at its start, and typing takes milliseconds to import
if TYPE_CHECKING:
    from typing import SupportsIndex

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_WRAP = 1 << 64

_all: dict[str, Gauge] = {}
_FOLDED = 1024

_lock = RLock()  # held for what is kept here; a finalizer or a signal handler may come while its own thread holds it


def gauge(name: str) -> Gauge:
    """Return the gauge of this name, the same object each time.

    Args:
        name: a letter or _, then letters, digits and _ . : / -, at most 48 characters. A recording has 64 gauges:
            name them by kind, such as open_tables, not by object. What is beyond works as the others do, unrecorded.

    Raises:
        ValueError: it is no such name.
    """
    found = _all.get(name)
    if found is not None:
        return found
    if not isinstance(name, str) or not is_gauge_name(name):
        raise ValueError(f"{name!r} is no name for a gauge: it takes {GAUGE_RULE}")
    with _lock:
        found = _all.setdefault(name, Gauge(name))
    if _native.is_here():
        follow()
    return found


class Gauge:
    """A whole number that counts something of the program's: open tables, sessions, entries of a cache.

    Threads may set it and add to it at the same time; of two that set it the later counts. A forked child begins
    without a value.
    """

    __slots__ = ("_more", "_number", "_pid", "_value", "name")

    def __init__(self, name: str) -> None:
        """Begin without a value; `gauge` makes them."""
        self.name = name
        self._number = 0  # in the core; 0: it does not know this one
        self._value: int | None = None  # until then
        self._more: list[int] = []  # what was added since: a list grows in one step, whoever comes in between
        self._pid = 0  # whose value that is

    def __repr__(self) -> str:
        """Return it with its value."""
        return f"<gauge {self.name}={self.value}>"

    def set(self, value: SupportsIndex | float) -> None:
        """Set the value from now on.

        Args:
            value: a whole number that fits in 64 bits. A float is rounded to the nearest.

        Raises:
            ValueError: it is infinite, no number, or beyond 64 bits. The gauge is as it was.
            TypeError: it is not a number.
        """
        whole = value if type(value) is int and _LEAST <= value <= _MOST else _whole(value)
        if self._number:
            _native.gauge_set(self._number, whole)
            return
        with _lock:
            if not self._number:
                self._value, self._pid, self._more = whole, os.getpid(), []
                return
        _native.gauge_set(self._number, whole)

    def inc(self, n: SupportsIndex | float = 1) -> None:
        """Add *n*, from 0 if there is no value; errors as of `set`."""
        more = n if type(n) is int and _LEAST <= n <= _MOST else _whole(n)
        if self._number:
            _native.gauge_add(self._number, more)
        else:
            self._add(more)

    def dec(self, n: SupportsIndex | float = 1) -> None:
        """Take *n* off; errors as of `set`."""
        self.inc(_wrapped(-_whole(n)))

    @property
    def value(self) -> int | None:
        """The value that this process set last; None: it never did."""
        if self._number:
            return _native.gauge_value(self._number)
        with _lock:
            if self._pid != os.getpid() or (self._value is None and not self._more):
                return None
            return _wrapped((self._value or 0) + sum(self._more))

    def _add(self, more: int) -> None:
        with _lock:
            if not self._number:
                if self._pid != os.getpid():
                    self._value, self._pid, self._more = None, os.getpid(), []
                self._more.append(more)
                if len(self._more) % _FOLDED == 0:
                    kept = self._more[:]
                    self._value = _wrapped((self._value or 0) + sum(kept))
                    del self._more[: len(kept)]
                return
        _native.gauge_add(self._number, more)


def follow() -> None:
    """Hand over to the core what was set so far, if it is in this process; called when tracing begins."""
    with _lock:
        for one in list(_all.values()):
            if one._number:
                continue
            try:
                number = _native.gauge(one.name)
            except CoreError:
                return
            handed = None
            if number and _native.gauge_value(number) is None:
                while (value := one.value) is not None and value != handed:
                    handed = value
                    _native.gauge_set(number, value)
            one._number = number


def _whole(value: SupportsIndex | float) -> int:
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"a gauge is a count: {value} is none")
        whole = round(value)
    else:
        if not hasattr(value, "__index__") and not hasattr(value, "__float__"):
            raise TypeError(f"a gauge is a count: {type(value).__name__} is no number")
        whole = value.__index__() if hasattr(value, "__index__") else round(float(value))
    if not _LEAST <= whole <= _MOST:
        raise ValueError(f"{whole} is beyond what a gauge holds: 64 bits")
    return whole


def _wrapped(value: int) -> int:
    """Return it as 64 bits hold it."""
    return (value - _LEAST) % _WRAP + _LEAST


def _after_fork() -> None:
    """In the child: a lock that another thread held would be held for ever."""
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_after_fork)
