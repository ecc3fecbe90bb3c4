"""The wheel, built once by the oldest CPython found, works under each of them without a compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import compatenv

pytestmark = [pytest.mark.compat]


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_wheel_works_under(version, tmp_path):
    """Install with no compiler on PATH, then trace, read and print."""
    python = compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MEMLEAK"))}
    done = subprocess.run(
        [python, str(Path(__file__).with_name("slice.py"))],
        capture_output=True, text=True, cwd=tmp_path, env=variables,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr[-4000:]
