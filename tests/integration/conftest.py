"""Fixtures for tests that run real programs under the tracer."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import DOORS, Door
from tracing import PROGRAMS, Tracer


@pytest.fixture
def tracer(core_path: str, runtime_directory: Path) -> Tracer:
    """Run programs with the core preloaded."""
    return Tracer(core_path, runtime_directory)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, core_path: str, runtime_directory: Path) -> Door:
    """Run Python programs through either door."""
    return Door(request.param, core_path, runtime_directory)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile one of programs/: ``program("NAME.c", *flags, name=…)`` returns the executable's path."""
    directory = tmp_path_factory.mktemp("targets")
    built: dict[tuple[str, ...], str] = {}

    def build(source: str, *flags: str, name: str | None = None) -> str:
        compiler = "g++" if source.endswith(".cc") else "gcc"
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        key = (source, *flags, name or "")
        if key not in built:
            binary = directory / (name or Path(source).stem)
            command = [
                compiler,
                "-D_GNU_SOURCE",
                "-g",
                "-O1",
                "-Wall",
                "-Werror",
                "-o",
                str(binary),
                str(PROGRAMS / source),
                "-pthread",
                *flags,
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            built[key] = str(binary)
        return built[key]

    return build
