"""Every system call of ours made to fail: the program does what it does without us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from observing import Seen, clean_environment, see, without_our_line
from victims import HERE, PROGRAMS

from memleak import _native

ALL = os.environ.get("MEMLEAK_TORTURE") == "1"
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
EPERM, ENOMEM, ENOSYS = 1, 12, 38
# By number on x86-64, the one architecture so far. What never fails by the manual is left alone: getpid and its like.
CALLS = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "mmap": 9, "mprotect": 10, "munmap": 11, "rt_sigprocmask": 14,
    "pread64": 17, "pwrite64": 18, "mremap": 25, "madvise": 28, "nanosleep": 35, "uname": 63, "ftruncate": 77, "getcwd": 79, "getrusage": 98,
    "fstatfs": 138, "prctl": 157, "futex": 202, "getdents64": 217, "openat": 257, "mkdirat": 258, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "readlinkat": 267, "set_robust_list": 273, "get_robust_list": 274, "utimensat": 280,
    "fallocate": 285, "prlimit64": 302, "getrandom": 318,
}  # fmt: skip
ONLY_SOMETIMES = {"nanosleep", "futex", "munmap", "unlinkat"}  # when a thread meets another, or room is made
NAMES = {number: name for name, number in CALLS.items()}
AT_MOST = 10**6 if LONG else 8 if ALL else 0  # calls of each kind that are made to fail one at a time
ERRORS = (EPERM, ENOMEM, ENOSYS) if ALL or LONG else (EPERM,)

pytestmark = pytest.mark.timeout(3600 if LONG else 900)


@dataclass(frozen=True)
class Program:
    """What is run, and how we come into it."""

    command: tuple[str, ...]
    variables: dict[str, str]


@pytest.fixture(scope="module")
def inject(tmp_path_factory) -> str:
    """Compile the launcher; skip where the kernel hands no system calls over."""
    program = tmp_path_factory.mktemp("inject") / "inject"
    source = Path(__file__).with_name("inject.c")
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    if subprocess.run([program, "x", "-1", "0", "1", "true"], capture_output=True).returncode != 0:
        pytest.skip("no seccomp notifications on this kernel")
    return str(program)

# A second thread is there for longer than ours sleeps.
WAITING = """
import threading, time
thread = threading.Thread(target=time.sleep, args=(2.5,))
thread.start()
thread.join()
print("waited")
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Program]:
    """A program that forks beside a thread and loads a plug-in, by preload; a Python program, through both doors."""
    place = tmp_path_factory.mktemp("faulty")
    flags = ["-D_GNU_SOURCE", "-O1", "-fno-builtin", "-pthread", "-w"]
    program, plug = str(place / "forked_loader"), str(place / "plug.so")
    subprocess.run(["gcc", *flags, "-o", program, PROGRAMS / "forked_loader.c", "-ldl"], check=True)
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", plug, PROGRAMS / "doors/plug.c"], check=True)
    preload = {"MEMLEAK": "1", "LD_PRELOAD": _native.library_path()}
    python = (sys.executable, str(HERE / "few_calls.py"))
    return {
        "program": Program((program, "threads", plug), preload),
        "python_preload": Program(python, preload),
        "python_import": Program(python, {"MEMLEAK": "1"}),
        "waiting": Program((sys.executable, "-c", WAITING), preload),
    }


@pytest.fixture
def run(inject, programs, tmp_path, runtime_directory) -> Callable[..., tuple[Seen, dict[str, tuple[int, int]]]]:
    """``run(PROGRAM, call, when, error)``: what was seen, and by call how many we made and how many failed."""

    def go(name: str, call: str | None = None, when: int = 0, error: int = EPERM):
        program, report = programs[name], tmp_path / "report"
        variables = {"MEMLEAK_MODE": "full", "MEMLEAK_DIR": str(runtime_directory), "INJECT_REPORT": str(report)}
        variables |= program.variables
        preload = variables.pop("LD_PRELOAD", None)
        within = ["env", f"LD_PRELOAD={preload}"] if preload else ["env"]  # what injects is not traced itself
        words = [inject, "/libmemleak.so", CALLS[call] if call else -1, when, error]
        seen = see([*map(str, words), *within, *program.command], clean_environment(**variables))
        lines = [tuple(map(int, line.split())) for line in report.read_text().splitlines()]
        return seen, {NAMES.get(number, str(number)): (made, failed) for number, made, failed in lines}

    return go


@pytest.fixture(scope="module")
def sound() -> dict[str, tuple[Seen, dict[str, tuple[int, int]]]]:
    """By program: what it does without us, and how many calls we make of each kind when none fails."""
    return {}


def test_sleep_is_refused(run):
    """Our thread does not turn without end where it may not sleep as it would."""
    seen, counts = run("waiting", "futex")
    assert (seen.status, seen.output) == (0, "waited\n")
    made, failed = counts["futex"]
    assert 0 < failed == made < 100
    assert all(number < 1000 for number, _ in counts.values())


@pytest.mark.parametrize("name", ["program", "python_preload", "python_import"])
@pytest.mark.parametrize("call", CALLS)
def test_call_fails(run, programs, sound, record_property, name, call):
    """Every one, and each of the first by itself."""
    if name not in sound:
        plain = see(programs[name].command, clean_environment())
        untouched, counts = run(name)
        assert (untouched.status, untouched.output, untouched.errors) == (plain.status, plain.output, plain.errors)
        assert {"openat", "mmap", "madvise", "read"} <= counts.keys()
        sound[name] = plain, counts
    plain, counts = sound[name]
    made, _ = counts.get(call, (0, 0))
    if not made:
        pytest.skip(f"the core does not call {call} here")
    faults = [(0, error) for error in ERRORS] + [(when, EPERM) for when in range(1, min(made, AT_MOST) + 1)]
    injected = 0
    for when, error in faults:
        seen, counts = run(name, call, when, error)
        injected += counts.get(call, (0, 0))[1]
        told = f"{call} call {when or 'every'} of {made} fails with errno {error}"
        assert (seen.status, seen.output) == (plain.status, plain.output), told
        assert without_our_line(seen.errors) == plain.errors, told
    assert injected or call in ONLY_SOMETIMES
    record_property("injected faults", injected)
