"""``memleak doctor``: what would stop tracing on this machine, or in one process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import _native, locate
from ..errors import MemleakError
from . import render
from .common import Parser
from .preload import limit_obstacle, loadable_core

GLIBC_LEAST = (2, 28)
KERNEL_GROWING = (5, 14)  # MADV_POPULATE_WRITE
FREE_LEAST = 3 << 20  # what a recording starts with


class Finding(NamedTuple):
    """One thing looked at: level is ok, warn or fail."""

    level: str
    subject: str
    detail: str


def main(argv: Sequence[str]) -> int:
    """Print one line per finding; 1 if something stops tracing."""
    parser = Parser("doctor", "Say what would stop tracing on this machine, or what does in one process.")
    parser.add_argument("pid", metavar="PID", nargs="?", type=int, help="look at this process as well")
    parser.add_argument("--json", action="store_true", help="one JSON list of findings")
    options = parser.parse_args(argv)
    findings = list(machine())
    if options.pid is not None:
        from .doctor_process import process

        findings += process(options.pid)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        lines = (f"{finding.level:<4}  {finding.subject}: {finding.detail}" for finding in findings)
        render.write(map(render.printable, lines), sys.stdout)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def machine() -> Iterator[Finding]:
    """Look at everything that is the same for each program started from here."""
    yield _libc()
    yield _kernel()
    yield from _directories()
    yield from _kept()
    yield _core()
    yield _preload()
    yield from _environment()
    yield _proc()


def _libc() -> Finding:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except (OSError, ValueError):
        name, version, numbers = "", "unknown", ()
    if name != "glibc":
        return Finding("fail", "C library", "not glibc; memleak needs glibc 2.28 or later")
    level = "ok" if numbers >= GLIBC_LEAST else "fail"
    return Finding(level, "C library", f"glibc {version}" + ("" if level == "ok" else "; 2.28 or later is needed"))


def _kernel() -> Finding:
    release = platform.release()
    try:
        numbers = tuple(int("".join(c for c in part if c.isdigit())) for part in release.split("-")[0].split(".")[:2])
    except ValueError:
        return Finding("warn", "kernel", f"{release}: version not understood")
    if numbers < KERNEL_GROWING:
        return Finding("warn", "kernel", f"{release}: before 5.14 a recording cannot grow while the program runs")
    return Finding("ok", "kernel", release)


def _directories() -> Iterator[Finding]:
    usable = 0
    for directory in locate.directories():
        problem = _directory_problem(directory)
        usable += problem is None
        if problem is not None:
            yield Finding("warn", "recordings", f"{directory}: {problem}")
            continue
        room = os.statvfs(_existing(directory))
        free, size = room.f_bavail * room.f_frsize >> 20, room.f_blocks * room.f_frsize >> 20
        yield Finding(
            "ok", "recordings", f"{directory}: {free} of {size} MiB free, recordings take {size // 8} at most"
        )
    if not usable:
        yield Finding(
            "fail", "recordings", "no usable directory: programs run with a private recording nobody can read;"
            " set MEMLEAK_DIR to a directory of yours on a tmpfs",
        )  # fmt: skip


def _kept() -> Iterator[Finding]:
    directory = os.environ.get("MEMLEAK_KEEP_DIR")
    if not directory:
        return
    problem = _keep_problem(directory)
    if problem is None:
        yield Finding("ok", "copies", f"{directory}: gets copies of recordings")
    else:
        yield Finding("warn", "copies", f"{directory}: {problem}; no copies are kept there")


def _keep_problem(directory: str) -> str | None:
    if not os.path.isabs(directory):
        return "not an absolute path"
    if os.path.islink(directory):
        return "a symbolic link; give what it leads to"
    if not os.path.isdir(os.path.dirname(os.path.abspath(directory))):
        return "the directory that is to hold it does not exist"
    try:
        return _access_problem(directory, "MEMLEAK_KEEP_DIR")
    except OSError as error:
        return str(error.strerror)


def _access_problem(directory: str | os.PathLike[str], variable: str) -> str | None:
    """Return why we may not write there. Raises OSError."""
    existing = _existing(directory)
    status = os.stat(existing)
    if existing == os.path.abspath(directory):
        if not os.path.isdir(existing):
            return "not a directory"
        if status.st_uid != os.getuid():
            return f"belongs to uid {status.st_uid}, you are {os.getuid()}; remove it or set {variable}"
        if status.st_mode & 0o077:
            return f"mode {status.st_mode & 0o777:o}, others may enter; chmod 700 it"
    return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} is not writable"


def _directory_problem(directory: str | os.PathLike[str]) -> str | None:
    existing = _existing(directory)
    try:
        problem = _access_problem(directory, "MEMLEAK_DIR")
        if problem is not None:
            return problem
        kind = _filesystem(existing)
        if kind not in ("tmpfs", "ramfs", "hugetlbfs"):
            return f"on {kind}, not on a tmpfs; it gets copies, recordings are not mapped there"
        room = os.statvfs(existing)
    except OSError as error:
        return str(error.strerror)
    if room.f_bavail * room.f_frsize < FREE_LEAST:
        return "less than 3 MiB free; remove dead recordings (memleak ps --dead) or enlarge it"
    return None


def _existing(where: str | os.PathLike[str]) -> str:
    path = os.path.abspath(where)
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _filesystem(path: str) -> str:
    """Return the type of the file system that holds *path*, from the longest mount point."""
    best, kind = "", "an unknown file system"
    real = os.path.realpath(path)
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            _, point, name, *_ = line.split(" ")
            if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, name
    return kind


def _core() -> Finding:
    try:
        path = _native.library_path()
        return Finding("ok", "core", f"{path}, build {_native.build_id()}")
    except MemleakError as error:
        return Finding("fail", "core", str(error))


def _preload() -> Finding:
    core, reason = loadable_core()
    if core is None:
        return Finding("fail", "LD_PRELOAD", str(reason))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MEMLEAK")}
    variables["LD_PRELOAD"] = core
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"print({os.path.realpath(core)!r} in open('/proc/self/maps').read())"],
            env=variables, capture_output=True, text=True, errors="replace", timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("fail", "LD_PRELOAD", f"starting {sys.executable} with it: {error}")
    loaded = done.stdout.strip() == "True"
    if not loaded:
        words = " ".join(done.stderr.split())[:200] or f"status {done.returncode}"
        return Finding("fail", "LD_PRELOAD", f"the loader did not bring {core} into {sys.executable}: {words}")
    return Finding("ok", "LD_PRELOAD", "the core can be loaded into programs started from here")


def _environment() -> Iterator[Finding]:
    if os.environ.get("MEMLEAK_DISABLE", "0") not in ("", "0"):
        yield Finding("fail", "environment", "MEMLEAK_DISABLE is set: nothing is traced; unset it")
    from .. import config

    for warning in [*config.from_environment(os.environ)[1], *config.sides(os.environ, None, None)[2]]:
        yield Finding("warn", "environment", warning)
    try:
        if os.environ.get("MEMLEAK_FOCUS", "").strip():
            config.validate_focus(os.environ["MEMLEAK_FOCUS"])
    except ValueError as error:
        yield Finding("warn", "environment", f"MEMLEAK_FOCUS ignored: {error}")
    limited = limit_obstacle()
    if limited is not None:
        yield Finding("fail", "environment", f"{limited}; memleak run starts programs untraced")


def _proc() -> Finding:
    try:
        with open("/proc/1/maps", "rb") as stream:
            stream.read(1)
        return Finding("ok", "/proc", "every process can be inspected")
    except PermissionError:
        return Finding("ok", "/proc", "your own processes can be inspected; a TARGET of another user needs root")
    except OSError as error:
        return Finding("warn", "/proc", f"/proc/PID/maps: {error.strerror}; a pid cannot be a TARGET")
