"""Where things lie: this tree, the environment of ./test, and what a run of the suite works in."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
PROGRAMS = BENCHMARKS / "programs"
RESULTS = BENCHMARKS / "results"
WHOLE = RESULTS / "suite.json"
PARTIAL = RESULTS / "partial.json"
HOME = Path(os.environ.get("MEMLEAK_TEST_HOME") or ROOT / ".test-venv")

# What could change a program or a tool behind our back.
DROPPED = ("MEMLEAK", "PYTHON", "LD_", "DD_", "_DD_", "MALLOC_", "TCMALLOC_", "HEAP", "GLIBC_TUNABLES")


class Places(NamedTuple):
    """What one run of the suite works in."""

    scratch: Path  # outputs of tools, on a disk
    recordings: Path  # the tracer's, on a tmpfs
    python: Path
    core: Path

    def fresh(self) -> Path:
        """Return an empty directory for one process."""
        return Path(tempfile.mkdtemp(dir=self.scratch))


def places(scratch: Path, recordings: Path) -> Places:
    """Return them; the package must be installed in this interpreter's environment."""
    from memleak import _native

    return Places(scratch, recordings, Path(sys.executable), Path(_native.library_path()))


def memory_directory() -> Path:
    """Return a directory that is on a tmpfs, if there is one."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's variables less those that tools read, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    return {**kept, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", **more}
