"""Run programs with and without the tracer preloaded, and read what they recorded.

The fixtures of this directory's conftest.py hand these out: `tracer` runs programs, `program`
compiles those in programs/.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memleak import recording

PROGRAMS = Path(__file__).resolve().parent / "programs"
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
TIMEOUT_S = 120


class Sum(NamedTuple):
    """Live blocks and their bytes, as sampled."""

    count: int
    bytes: int


class Tracer:
    """The door `LD_PRELOAD` + `MEMLEAK=1`, with recordings in a directory of its own."""

    def __init__(self, core: str, directory: Path) -> None:
        """Take the path of libmemleak.so and the directory for recordings."""
        self.core = core
        self.directory = directory

    def environment(self, mode: str = "full", **more: str | None) -> dict[str, str]:
        """Return this process's environment with the tracer switched on; None removes a variable."""
        variables = {
            **os.environ,
            "LD_PRELOAD": self.core,
            "MEMLEAK": "1",
            "MEMLEAK_FOLLOW": "1",
            "MEMLEAK_MODE": mode,
            "MEMLEAK_DIR": str(self.directory),
            "MEMLEAK_SEED": "1",
            "MEMLEAK_BUDGET": "0",  # the knobs that a test asks for are those in force; test_governor.py gives budgets
        }
        variables.update({name: value for name, value in more.items() if value is not None})
        return {name: value for name, value in variables.items() if name not in more or more[name] is not None}

    def run(
        self, *command: str | Path, mode: str = "full", env: dict | None = None, **options
    ) -> subprocess.CompletedProcess:
        """Run a program traced, to its end; `env` is added to the environment."""
        return run(*command, env=self.environment(mode, **(env or {})), **options)

    def launch(
        self, *command: str | Path, mode: str = "full", env: dict | None = None, **options
    ) -> subprocess.CompletedProcess:
        """The same by `memleak run --quiet`; `env` is added to the environment."""
        given = {"MEMLEAK_DIR": str(self.directory), "MEMLEAK_SEED": "1", "MEMLEAK_BUDGET": "0"}
        variables = {**os.environ, **given, **(env or {})}
        launcher = [sys.executable, "-m", "memleak", "run", "--quiet", "--mode", mode]
        return run(*launcher, *command, env=variables, **options)

    def start(self, *command: str | Path, mode: str = "full", env: dict | None = None, **options) -> subprocess.Popen:
        """Start a program traced."""
        return subprocess.Popen([*map(str, command)], env=self.environment(mode, **(env or {})), **options)

    def same(
        self, *command: str | Path, mode: str = "full", env: dict | None = None, **options
    ) -> subprocess.CompletedProcess:
        """Run a program without and with the tracer; output, errors and status must be the same."""
        plain = run(*command, env={**os.environ, **(env or {})}, **options)
        traced = self.run(*command, mode=mode, env=env, **options)
        assert outcome(traced) == outcome(plain)
        return traced

    def paths(self) -> list[Path]:
        """Return the recordings left so far, the oldest first."""
        return sorted(self.directory.glob("*.mlrec"), key=lambda path: recording.load_header(path).start_monotonic_ns)

    def begun(self) -> list[Path]:
        """Return the recordings that are open: a child that nobody waited for may still be opening its own."""
        found = []
        for path in self.directory.glob("*.mlrec"):
            try:
                recording.load_header(path)
            except recording.RecordingError:
                continue
            found.append(path)
        return found

    def recordings(self, command: str | None = None) -> list[recording.Recording]:
        """Read every recording, of programs of one name if given."""
        found = [recording.load(path) for path in self.paths()]
        return [one for one in found if command in (None, one.header.command)]

    def only(self, binary: str | Path | None = None) -> recording.Recording:
        """Read the one recording there must be, of a program compiled by these tests if given."""
        (found,) = self.recordings(Path(binary).name[:15] if binary else None)
        return found

    def forget(self) -> None:
        """Remove the recordings left so far."""
        for path in self.directory.glob("*.mlrec"):
            path.unlink()


def run(*command: str | Path, timeout: float = TIMEOUT_S, **options) -> subprocess.CompletedProcess:
    """Run a program to its end; a hang is a failure."""
    options = {"capture_output": True, "text": True, "errors": "replace", "env": dict(os.environ), **options}
    return subprocess.run([*map(str, command)], timeout=timeout, **options)


def outcome(done: subprocess.CompletedProcess) -> tuple[int, str, str]:
    """What of a program's run must not change."""
    return done.returncode, done.stdout, done.stderr


# ---- functions and sums ------------------------------------------------------------------------------


class Functions:
    """The functions of a program compiled by these tests, by address."""

    def __init__(self, binary: str | Path) -> None:
        """Ask nm."""
        listing = subprocess.run(
            ["nm", "-C", "--defined-only", str(binary)], capture_output=True, text=True, check=True
        )
        words = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
        symbols = sorted((int(word[0], 16), word[2]) for word in words if len(word) == 3 and word[1] in "tTwW")
        self.starts = [start for start, _ in symbols]
        self.names = [name for _, name in symbols]
        self.path = str(binary)

    def at(self, found: recording.Recording, frame) -> str:
        """Return the function of a frame; of another module, that module's file name."""
        module = found.module(frame.module_id)
        if not module.is_main:
            return f"[{os.path.basename(module.path) or 'unknown'}]"
        position = bisect.bisect_right(self.starts, frame.vaddr - (not frame.exact)) - 1
        return self.names[position] if position >= 0 else "[before the first]"

    def stack(self, found: recording.Recording, row) -> list[str]:
        """Return the functions of a row, innermost first."""
        return [self.at(found, frame) for frame in row.stack]

    def sums(
        self, found: recording.Recording, prefix: str, depth: int = 1, domain: str | None = None
    ) -> dict[str, Sum]:
        """Add up live samples by the first of *depth* innermost functions that begins with *prefix*."""
        sums: dict[str, Sum] = {}
        for row in found.rows:
            if domain not in (None, row.mod_name) or not row.live.samples:
                continue
            for name in self.stack(found, row)[:depth]:
                if name.startswith(prefix):
                    name = name.split("(")[0]
                    before = sums.get(name, Sum(0, 0))
                    sums[name] = Sum(before.count + row.live.samples, before.bytes + row.live.bytes)
                    break
        return sums


def ledger(output: str, word: str = "site") -> dict[str, Sum]:
    """Read the lines `WORD NAME COUNT BYTES` that a program printed; sites without live blocks are left out."""
    lines = [line.split() for line in output.splitlines() if line.startswith(f"{word} ")]
    sums = {line[1]: Sum(int(line[2]), int(line[3])) for line in lines}
    return {name: found for name, found in sums.items() if found != (0, 0)}


def assert_consistent(found: recording.Recording) -> None:
    """What must hold in every copy of every recording, whenever it was taken."""
    assert not found.samples_lost.keys() & {"live_race", "address_range"}
    total = sum(row.live.samples for row in found.rows)
    assert total == len(found.live)
    assert sum(row.live.bytes for row in found.rows) == sum(sample[1] for sample in found.live)
    for row in found.rows:
        assert row.live.est_bytes >= row.live.bytes >= 0
        assert row.live.est_count >= row.live.samples >= 0
        assert all(frame.module_id <= len(found.modules) for frame in row.stack)
    for sample in found.live:
        assert sample[2] >= 1024
        assert found.row_of(sample).live.samples > 0


def assert_sensible(found: recording.Recording) -> None:
    """Nearly every backtrace is complete, or as deep as it may be, and none is only unknown places."""
    assert_consistent(found)
    counters = found.header.counters
    stopped = sum(count for name, count in counters.items() if name.startswith("unwind_"))
    assert stopped <= 0.02 * counters["samples"], f"{found.header.command}: {counters}"
    if not stopped:  # then what was cut is too deep; frames of operator new are taken off later
        assert all(len(row.stack) >= found.header.max_frames - 2 for row in found.rows if row.truncated)
    for row in found.rows:
        if row.overflow or not row.alloc_samples:
            continue
        assert row.stack, f"{found.header.command}: a row without a backtrace"
        assert any(frame.module_id for frame in row.stack), f"{found.header.command}: a row of unknown places"
        assert all(found.module(frame.module_id).path for frame in row.stack if frame.module_id)


def tree(directory: Path) -> dict[str, str]:
    """Return every file below a directory with the digest of its contents."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@contextmanager
def private_tmpfs(size: str) -> Iterator[Path | None]:
    """Mount a tmpfs of this size, 0700; None where that is not permitted."""
    place = Path(tempfile.mkdtemp(prefix="memleak-test-mount-"))
    if (
        os.getuid() != 0
        or run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "memleak-test", place).returncode
    ):
        shutil.rmtree(place)
        yield None
        return
    try:
        yield place
    finally:
        run("umount", "-l", place)
        shutil.rmtree(place, ignore_errors=True)
