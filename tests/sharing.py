"""Things that the processes of one test run share: one of them makes and the others wait for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep every other process of the run out of *directory* meanwhile."""
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once_a_run(directory: Path, name: str, make: Callable[[], None]) -> None:
    """Call *make* unless a process of this run has done so under this *name*."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"process {os.getpid()}"
    stamp = directory / f"{name}.run"
    with alone(directory):
        if stamp.exists() and stamp.read_text() == run:
            return
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(run)
