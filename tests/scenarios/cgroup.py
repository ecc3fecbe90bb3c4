"""Memory cgroups for tests, of either version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def _parent(version: int) -> Path:
    """Return our own cgroup; of version 2 the root, as others that hold processes have none below them."""
    if version == 2:
        return ROOT
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") and (ROOT / "memory" / path.lstrip("/")).is_dir():
            return ROOT / "memory" / path.lstrip("/")
    return ROOT / "memory"


@contextmanager
def limited(limit_bytes: int) -> Iterator[Path | None]:
    """Make a cgroup with this limit, and remove it in the end, when it must be empty; None where that is not permitted."""
    for version, file in ((1, "memory.limit_in_bytes"), (2, "memory.max")):
        made = _parent(version) / f"memleak-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            (made / file).write_text(f"{limit_bytes}\n")
        except OSError:
            made.rmdir()
            continue
        try:
            for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
                if (made / swap).exists():
                    (made / swap).write_text(f"{0 if version == 2 else limit_bytes}\n")
            yield made
        finally:
            made.rmdir()
        return
    yield None
