"""Other tools, installed where that is ours to do; where one cannot be had, why."""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from .places import HOME, clean_environment

ENVIRONMENT = HOME / "peers"
PYPERFORMANCE = HOME / "pyperformance"
# In an environment of their own: ddtrace brings files that every Python of its environment would run.
PACKAGES = ["ddtrace", "zstandard", "numpy", "flask>=2"]
# Debian package -> a file of it.
SYSTEM_PACKAGES = {
    "libjemalloc2": "/usr/lib/*/libjemalloc.so.2",
    "libgoogle-perftools4": "/usr/lib/*/libtcmalloc.so.4",
    "heaptrack": "/usr/lib/heaptrack/libheaptrack_preload.so",
    "redis-server": "/usr/bin/redis-server",
    "redis-tools": "/usr/bin/redis-benchmark",
    "valgrind": "/usr/bin/valgrind",
}


class NotAvailable(Exception):
    """A tool or program is not here; the message says why."""


def install_system_packages(say) -> None:
    """Install Debian's packages of which a file is missing, as root; otherwise say which they are."""
    missing = [package for package, name in SYSTEM_PACKAGES.items() if not glob.glob(name)]
    if not missing:
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        say(f"missing: {' '.join(missing)}; what needs them is left out")
        return
    say(f"installing {' '.join(missing)}")
    quiet = {"capture_output": True, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-q"], check=False, **quiet)
    for package in missing:
        subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", package], check=False, **quiet)


def file_of(package: str) -> Path:
    """Return the file of a Debian package that is used here."""
    found = sorted(glob.glob(SYSTEM_PACKAGES[package]))
    if not found:
        raise NotAvailable(f"{package} is not installed")
    return Path(found[0])


@functools.cache
def python() -> Path:
    """Return the interpreter of the peers' environment, made at the first call."""
    interpreter, stamp, wanted = ENVIRONMENT / "bin/python", ENVIRONMENT / "installed.txt", "\n".join(PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.EnvBuilder(with_pip=True, clear=ENVIRONMENT.exists()).create(ENVIRONMENT)
        _pip(interpreter, *PACKAGES)
        stamp.write_text(wanted)
    return interpreter


@functools.cache
def pyperformance() -> Path:
    """Return the directory with pyperformance and what its benchmarks import, made at the first call."""
    if not (PYPERFORMANCE / "pyperformance/data-files/benchmarks").is_dir():
        _pip(Path(sys.executable), "--target", str(PYPERFORMANCE), "pyperformance", "pyperf")
    return PYPERFORMANCE


def _pip(interpreter: Path, *words: str) -> None:
    command = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "-q", "install", "--only-binary=:all:"]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise NotAvailable(f"pip cannot install it: {last[:120]}")


@functools.cache
def jemalloc() -> Path:
    """Return jemalloc, if it was built with its profiler."""
    library = file_of("libjemalloc2")
    environment = clean_environment(LD_PRELOAD=str(library), MALLOC_CONF="prof:true,prof_active:true")
    said = subprocess.run(["/bin/true"], env=environment, capture_output=True, text=True).stderr
    if re.search(r"Invalid conf pair: prof:true", said):
        raise NotAvailable("not built with profiling")
    return library
