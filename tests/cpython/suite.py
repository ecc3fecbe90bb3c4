"""Run one module of CPython's own tests, without the tracer or with it in full mode, and read every case's outcome.

The same runner (``runner.py``) and the same arguments on both sides. Traced means the preload door and everything that
is executed below it; a run whose recording does not show that Python was seen is an error, not a result.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memleak import recording

HERE = Path(__file__).resolve().parent
# The modules, and how many seconds one may take without the tracer; those that take longest stand last.
MODULES = {
    "test_gc": 300,
    "test_generators": 300,
    "test_coroutines": 300,
    "test_tracemalloc": 300,
    "test_sys": 600,
    "test_traceback": 300,
    "test_ctypes": 300,
    "test_embed": 300,
    "test_threading": 900,
    "test_capi": 900,
    "test_subprocess": 1200,
    "test_asyncio": 1800,
    "test_multiprocessing_fork": 1800,
    "test_multiprocessing_spawn": 2400,
    "test_multiprocessing_forkserver": 2400,
}
OTHERS_S = 900  # what another module may take
# Full mode records every allocation: a traced run may take so many times as long before it counts as hanging.
SLOWER = 4
NO_TESTS_RAN = "4"  # a whole module that a resource was denied to, since 3.12
OPTIONS = ["-u", "-W", "default", "-bb", "-E"]  # what `python -m test` gives itself
RESOURCES = "all,-audio,-gui,-largefile,-network,-urlfetch"


@dataclass
class Run:
    """What became of one run."""

    status: str  # "0", "1", "-11"; "hangs"
    seconds: float
    cases: dict[str, tuple[str, ...]]  # every outcome of each case, sorted: a case may have sub-tests
    samples: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    output: str = ""

    @property
    def skipped_whole(self) -> bool:
        """Whether the module said at once that there is nothing to test here: another system's, a resource that is not given."""
        return not self.cases and self.status in ("0", NO_TESTS_RAN) and re.search(r"^test_[\w.]+ skipped", self.output, re.MULTILINE) is not None

    def count(self, outcome: str) -> int:
        """Return how many cases came out so."""
        return sum(outcomes == (outcome,) for outcomes in self.cases.values())

    def outcome(self, case: str) -> str:
        """Return a case's outcome in a word."""
        return "+".join(self.cases.get(case, ["not run"]))


class NoResult(Exception):
    """A run that nothing can be concluded from: no case was run, or it was not traced that should have been."""


class HangsAlone(Exception):
    """A module that does not end without the tracer either: nothing can be concluded, and nothing is held against anybody."""


def has_tests(python: str, module: str) -> bool:
    """Tell whether an interpreter comes with a module of tests, or with what ours of that name needs."""
    needed = "test._test_multiprocessing" if (HERE / "forgotten" / f"{module}.py").exists() else f"test.{module}"
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    done = subprocess.run([python, "-c", probe, needed], capture_output=True)
    return done.returncode == 0


def all_modules(python: str) -> list[str]:
    """Return every module of tests that an interpreter comes with, those of the list above last."""
    command = [python, "-m", "test", "--list-tests"]
    names = subprocess.run(command, capture_output=True, text=True, check=True, env=plain_environment()).stdout.split()
    tops = dict.fromkeys(name.removeprefix("test.").partition(".")[0] for name in names)
    return [name for name in tops if name not in MODULES] + list(MODULES)


def run(
    python: str, module: str, core: str | None = None, cases: Sequence[str] = (), limit: float | None = None
) -> Run:
    """Run a module, or only some of its cases; traced if the path of the core is given.

    Raises:
        NoResult: there is no recording of the process, or none of Python in it.
    """
    limit = (limit or MODULES.get(module, OTHERS_S)) * (SLOWER if core else 1)
    work = Path(tempfile.mkdtemp(prefix="memleak-cpython-"))
    recordings = Path(tempfile.mkdtemp(prefix="memleak-cpython-", dir="/dev/shm"))
    try:
        outcomes = work / "outcomes"
        outcomes.touch()
        (work / "tmp").mkdir()
        # Without --timeout: it also says how long support.LONG_TIMEOUT is, and some tests may sleep that long
        # (test_terminate of a pool of threads, until 3.12.1, when its first task begins in time).
        command = [python, *OPTIONS, str(HERE / "runner.py"), str(outcomes), "-v"]
        command += ["-u", RESOURCES, "--tempdir", str(work / "tmp"), *only(cases), module]
        environment = {**plain_environment(), "MEMLEAK_DIR": str(recordings)}
        if core:
            environment.update(LD_PRELOAD=core, MEMLEAK="1", MEMLEAK_FOLLOW="1", MEMLEAK_MODE="full")
        started = time.monotonic()
        pid, status = run_group(command, environment, work, limit + 60)
        found = Run(status, time.monotonic() - started, read_outcomes(outcomes))
        found.output = (work / "output").read_text(errors="replace")
        if core:
            found.samples, found.lost = read_recording(recordings, pid)
        return found
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(recordings, ignore_errors=True)


def plain_environment() -> dict[str, str]:
    """Return this environment without what steers Python or memleak, or belongs to a virtual environment."""
    dropped = ("MEMLEAK", "PYTHON", "LD_PRELOAD", "VIRTUAL_ENV", "COV_", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def only(cases: Sequence[str]) -> list[str]:
    """Return the arguments that run these cases alone; none if one of them is not a case that can be named."""
    if any(" " in case for case in cases):
        return []  # "setUpClass (…)"
    return [word for case in cases for word in ("-m", case)]


def run_group(command: list[str], environment: dict[str, str], work: Path, limit: float) -> tuple[int, str]:
    """Run a command in a session of its own; end what is left of it afterwards."""
    with open(work / "output", "wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=default_signals,
        )  # fmt: skip
        try:
            hangs = not ends_within(process.pid, limit)
        finally:
            # Before its own pid is free to become another's.
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    return process.pid, "hangs" if hangs else str(status)


def ends_within(pid: int, limit: float) -> bool:
    """Wait for a child's end without reaping it."""
    deadline = time.monotonic() + limit
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def default_signals() -> None:
    """Undo what a background job of a shell inherits: with SIGINT ignored some tests fail on both sides."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_outcomes(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the outcomes that the runner wrote, by case; a line that a crash cut off does not count."""
    cases: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        try:
            case, outcome = json.loads(line)
        except ValueError:
            continue
        cases.setdefault(case, []).append(outcome)
    return {case: tuple(sorted(outcomes)) for case, outcomes in cases.items()}


def read_recording(directory: Path, pid: int) -> tuple[int, dict[str, int]]:
    """Return the samples that a process took and what was lost of them."""
    for path in directory.glob(f"{pid}-*.mlrec"):
        found = recording.load(path)
        if found.header.pid == pid and found.header.python_version and found.header.counters["samples"]:
            return found.header.counters["samples"], found.samples_lost
    names = sorted(path.name for path in directory.iterdir())
    raise NoResult(f"no recording of Python by process {pid} among {names}")
