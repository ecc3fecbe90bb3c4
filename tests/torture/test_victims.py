"""Each victim does the same with us and without us, through every door, in every mode, under every CPython."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import compatenv
import pytest
from observing import LONG, compare, gone
from victims import HERE, NATIVE, PYTHON, Victim

from memleak import _native

ALL = os.environ.get("MEMLEAK_TORTURE") == "1"
HERE_VERSION = "%d.%d" % sys.version_info[:2]
VERSIONS = compatenv.VERSIONS if ALL else (HERE_VERSION,)
MODES = ("normal", "full")

pytestmark = pytest.mark.timeout(2500 if LONG else 300)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the victims' recordings go."""
    path = Path(tempfile.mkdtemp(prefix="memleak-victim-", dir="/dev/shm"))
    yield path
    gone(path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a file once: ``built(SOURCE, *flags)`` returns the program's path."""
    place = tmp_path_factory.mktemp("victims")
    place.chmod(0o755)
    for above in place.parents[:2]:
        above.chmod(0o755)

    @cache
    def build(source: Path, *flags: str) -> str:
        target = place / f"{source.stem}{'.so' if '-shared' in flags else ''}"
        compiler = "g++" if source.suffix == ".cc" else "gcc"
        words = ["-D_GNU_SOURCE", "-g", "-O1", "-fno-builtin", "-w", "-pthread", "-o", str(target), str(source)]
        done = subprocess.run([compiler, *words, *flags, "-ldl"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(target)

    return build


def asked_of(victim: Victim) -> dict[str, str]:
    """Return what is asked of us beside the mode."""
    return {"MEMLEAK_THREAD": "0"} if victim.by_itself else {}


def words_of(victim: Victim, built: Callable[..., str]) -> list[str]:
    """Return what a victim is started with."""
    words = list((LONG and victim.long_words) or victim.words)
    if victim.library is None:
        return words
    library = built(victim.library, "-shared", "-fPIC")
    return [*words, library]


@pytest.fixture(autouse=True)
def counted(record_property) -> None:
    """Count the runs for ./torture."""
    record_property("victims", 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NATIVE)
def test_program_by_preload(built, directory, name, mode):
    """A C or C++ program with the core preloaded."""
    victim = NATIVE[name]
    command = [built(victim.source), *words_of(victim, built)]
    compare(command, directory, mode, MEMLEAK="1", LD_PRELOAD=_native.library_path(), **asked_of(victim))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name, victim in NATIVE.items() if victim.hosted])
def test_program_in_a_python_that_imports(built, directory, name, mode):
    """The same program inside an interpreter whose environment starts us: by the slots of what is loaded."""
    victim = NATIVE[name]
    library = built(victim.source, "-shared", "-fPIC")
    command = [sys.executable, str(HERE / "host.py"), library, *words_of(victim, built)]
    compare(command, directory, mode, MEMLEAK="1")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", ["preload", "import", "run"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", PYTHON)
def test_python(directory, name, version, door, mode):
    """A Python program, through every door."""
    python = sys.executable if version == HERE_VERSION else compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    victim = PYTHON[name]
    command = [python, str(victim.source), *((LONG and victim.long_words) or victim.words)]
    asked = asked_of(victim)
    if door == "run":
        compare(command, directory, mode, python, "-m", "memleak", "run", "--quiet", "--mode", mode, **asked)
    elif door == "preload":
        compare(command, directory, mode, MEMLEAK="1", LD_PRELOAD=_native.library_path(), **asked)
    else:
        compare(command, directory, mode, MEMLEAK="1", **asked)
