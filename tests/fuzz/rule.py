"""The rule for every reader of foreign bytes: an answer or a `MemleakError`, within 2 s and 512 MB for 1 MB."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memleak.errors import MemleakError

CPU_S = 2.0  # of CPU, so that a busy machine changes nothing
MEMORY_BYTES = 512 << 20


class TooSlow(BaseException):
    """The time is up. No `except Exception` on the way takes it for its own."""


def _expired(*_: object) -> None:
    raise TooSlow(f"more than {CPU_S:g} s of CPU")


@contextmanager
def limited() -> Iterator[None]:
    """Give what runs inside so much address space beyond what is taken already, and no more."""
    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, old[1]))
    handler = signal.signal(signal.SIGPROF, _expired)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, old)


def obey(target: Callable[[bytes], None], data: bytes) -> None:
    """Call *target*, inside `limited`; raise whatever it must not, `TooSlow` and `MemoryError` among it."""
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        target(data)
    except MemleakError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
