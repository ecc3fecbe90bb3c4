"""What `doctor` finds in one process: the core, the recording, what is out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import _native, coverage, layout, linkmaps, loaded, locate, recording
from ..errors import MemleakError
from ..names import LIBRARY
from ..records import NOT_SAMPLED
from . import program
from .common import DOORS
from .doctor import Finding

SANITIZERS = ("libasan", "libtsan", "libmsan", "liblsan", "libhwasan", "libclang_rt")
LOST = ("room_refused", "knobs_rejected", "code_full", "python_full", "python_unreadable")
_START = "start it with memleak run, or with the core in LD_PRELOAD and MEMLEAK=1"
_START_PYTHON = "start it with memleak run or with MEMLEAK=1, or let it call memleak.start() after import memleak"


def process(pid: int) -> Iterator[Finding]:
    """Look at one process from outside; nothing of ours runs in it."""
    subject = f"pid {pid}"
    if not os.path.isdir(f"/proc/{pid}"):
        yield Finding("fail", subject, "there is no such process; memleak ps lists those with a recording")
        return
    try:
        objects = loaded.look(pid).objects
    except OSError as error:
        yield Finding("fail", subject, f"/proc/{pid}/maps: {error.strerror}; run as its user or as root")
        return
    paths = sorted({found.path for found in objects})
    core = next((path for path in paths if os.path.basename(path) == LIBRARY), None)
    if core is not None:
        yield Finding("ok", subject, f"the core is loaded: {core}")
    else:
        yield from _why_not_loaded(pid, subject, paths)
    yield from _recording(pid, subject, paths, core is not None)
    for path in paths:
        if os.path.basename(path).startswith(SANITIZERS):
            yield Finding("warn", subject, f"{path}: a sanitizer's allocator is in place, our numbers cover less")


def _why_not_loaded(pid: int, subject: str, paths: list[str]) -> Iterator[Finding]:
    reason = None
    try:
        reason = program.obstacle(f"/proc/{pid}/exe", _native.library_path())
        if reason is None and linkmaps.auxiliary_vector(pid).get(linkmaps.AT_SECURE, 0):
            reason = "it was started with raised rights, where the loader ignores preloads"
    except (OSError, MemleakError):
        pass
    if reason is None:
        preloaded = LIBRARY.encode() in _environment(pid).get(b"LD_PRELOAD", b"")
        reason = (
            "LD_PRELOAD names the core, yet it is not loaded: see the program's first lines on standard error"
            if preloaded
            else f"it was started without it; {_how_to_start(paths)}"
        )
    elif _is_python(paths):
        reason += "; let it call memleak.start() after import memleak"
    yield Finding("fail", subject, f"the core is not loaded: {reason}")


def _how_to_start(paths: list[str]) -> str:
    return _START_PYTHON if _is_python(paths) else _START


def _is_python(paths: list[str]) -> bool:
    return any(os.path.basename(path).startswith(("python", "libpython")) for path in paths)


def _recording(pid: int, subject: str, paths: list[str], is_loaded: bool) -> Iterator[Finding]:
    """Say what is recorded, and whose allocations are not."""
    try:
        path = locate.find(pid)[0]
        found = recording.load(path)
    except (MemleakError, OSError) as error:
        if is_loaded:
            why = str(error)
            if b"MEMLEAK" not in _environment(pid):
                why = f"it was not started with MEMLEAK=1, nor has it called memleak.start(); {_how_to_start(paths)}"
            yield Finding("fail", subject, f"no recording: {why}")
        yield from _own_allocators(pid, subject)
        return
    header = found.header
    door = f", door {DOORS[header.door_name]}" if header.door_name in DOORS else ""
    yield Finding("ok", subject, f"recording {path}: {header.state_name}, mode {header.mode}{door}")
    if header.python:
        level = "ok" if header.python_state in (layout.PYTHON_FRAMES, layout.PYTHON_OFF) else "warn"
        yield Finding(level, subject, f"Python {header.python}")
    if not header.counts_native:
        yield Finding("ok", subject, f"native {NOT_SAMPLED} (native=False, --no-native or MEMLEAK_NATIVE=0)")
    lost = {name: header.counters[name] for name in LOST if header.counters.get(name)}
    for name, count in lost.items():
        yield Finding("warn", subject, f"counter {name} = {count}")
    yield from _coverage(coverage.of(found, pid), subject)


def _coverage(found: coverage.Coverage, subject: str) -> Iterator[Finding]:
    for each in found.out_of_reach:
        yield Finding("warn", subject, f"out of reach: {each}")
    if found.known and found.not_looked_at:
        yield Finding("ok", subject, f"not looked at yet: {', '.join(found.not_looked_at)}")
    yield Finding("ok", subject, f"hooks: {found.summary()}")


def _own_allocators(pid: int, subject: str) -> Iterator[Finding]:
    try:
        found = coverage.own_allocators(pid)
    except OSError:
        return  # it ended just now
    for each in found:
        yield Finding("warn", subject, f"out of reach: {each}")


def _environment(pid: int) -> dict[bytes, bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            pairs = (entry.partition(b"=") for entry in stream.read().split(b"\0"))
            return {name: value for name, _, value in pairs}
    except OSError:
        return {}
