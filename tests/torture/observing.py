"""Run a program, see all of it that must not depend on us (status, output, files, that it ends), and compare."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from memleak import recording
from memleak.errors import RecordingError

LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
TIMEOUT_S = 1000 if LONG else 100


@dataclass(frozen=True)
class Seen:
    """What a program did."""

    status: int | str  # "hangs"
    output: str
    errors: str
    files: tuple[tuple[str, int, str], ...]  # name, mode and digest of each that it left in its directory


def see(command: Sequence[str | Path], variables: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Seen:
    """Run a program in an empty directory that anybody may write to."""
    with tempfile.TemporaryDirectory(prefix="victim-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        process = subprocess.Popen(
            [*map(str, command)], cwd=directory, env=dict(variables), start_new_session=True,
            text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        status: int | str
        try:
            output, errors = process.communicate(timeout=timeout_s)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, errors = process.communicate()
            status = "hangs"
        return Seen(status, output, errors, tuple(left_in(directory)))


@cache
def without_us(*command: str, **variables: str) -> Seen:
    """What a program does when we are not there; it is run once."""
    return see(command, clean_environment(**variables))


def compare(command: Sequence[str], directory: Path, mode: str, *launcher: str, **variables: str) -> None:
    """Run a program with us; all that can be seen of it must be as without us, and there must be a recording."""
    plain = without_us(*command)
    assert plain.status != "hangs", plain
    environment = clean_environment(MEMLEAK_MODE=mode, MEMLEAK_DIR=str(directory), **variables)
    traced = see([*launcher, *command], environment)
    assert without_our_line(traced.errors) == plain.errors
    status = plain.status
    if launcher and isinstance(status, int) and status < 0:
        status = 128 - status  # what a launcher can say of a signal
    assert (traced.status, traced.output, traced.files) == (status, plain.output, plain.files)
    assert any(map(readable, directory.glob("*.mlrec")))


def readable(path: Path) -> bool:
    """Tell whether a recording was begun; that of a child which was killed meanwhile says that it was not."""
    try:
        return recording.load_header(path).pid > 0
    except RecordingError as error:
        if "never completed" in str(error):
            return False
        raise


def left_in(directory: Path) -> list[tuple[str, int, str]]:
    """Return name, mode and digest of each file below a directory."""
    return [
        (str(path.relative_to(directory)), path.stat().st_mode & 0o7777, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]


def without_our_line(errors: str) -> str:
    """Leave out the one line in which we may say that we cannot trace, or not as asked."""
    lines = errors.splitlines(keepends=True)
    ours = [line for line in lines if line.startswith(("memleak: ", "memleak run: "))]
    return "".join(line for line in lines if line not in ours) if len(ours) == 1 else errors


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what steers us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMLEAK", "PYTHON", "LD_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", **more}


def gone(directory: Path) -> None:
    """Remove a directory and all in it."""
    shutil.rmtree(directory, ignore_errors=True)
