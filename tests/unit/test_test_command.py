"""The last word of ./test: which skips fail it, which packages it asks for, and its closing line."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG_FORM = "Skipped: long form: set MEMLEAK_TEST_LONG=1"
NO_PERL = "Skipped: perl is not installed"


@pytest.fixture
def command(monkeypatch) -> ModuleType:
    """Return the script as a module of its own."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("memleak_test_command", str(ROOT / "test"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def conclude(command, tmp_path, capsys):
    """``conclude(reasons of skips, …)``: return the exit status and what was printed."""

    def go(*reasons: str, failed: int = 0, status: int = 0, strict: bool = False) -> tuple[int, list[str]]:
        skips = [{"test": f"tests/test_a.py::test_{number}", "reason": reason} for number, reason in enumerate(reasons)]
        counts = {"passed": 5, "failed": failed, "skipped": len(skips), "skips": skips}
        result = tmp_path / "result.json"
        result.write_text(json.dumps(counts))
        return command.conclude(result, status, strict), capsys.readouterr().out.splitlines()

    return go


def test_all_passed(conclude):
    """Nothing but the closing line."""
    assert conclude() == (0, ["5 passed, 0 failed, 0 skipped"])


@pytest.mark.parametrize("strict", [False, True])
def test_a_skip_without_a_name_fails(conclude, strict):
    """It is counted as a failure, and shown with its reason."""
    status, lines = conclude("Skipped: no time", LONG_FORM, strict=strict)
    assert status == 1 and lines[-1] == "5 passed, 1 failed, 1 skipped"
    assert len(lines) == 2 and "tests/test_a.py::test_0: Skipped: no time" in lines[0]


def test_a_missing_tool_fails_only_where_it_could_be_had(conclude):
    """With --strict, that is; the long form and other CPythons may be left out there, too."""
    assert conclude(NO_PERL, LONG_FORM) == (0, ["5 passed, 0 failed, 2 skipped"])
    status, lines = conclude(NO_PERL, LONG_FORM, "Skipped: no CPython 3.9 on this machine", strict=True)
    assert status == 1 and lines[-1] == "5 passed, 1 failed, 2 skipped"
    assert len(lines) == 2 and "--strict" in lines[0] and NO_PERL in lines[0]


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5])
def test_no_status_of_pytest_is_lost(conclude, status):
    """An interruption, an error inside pytest, a usage error or nothing collected fail without a failed test."""
    assert conclude(status=status) == (1, ["5 passed, 1 failed, 0 skipped"])
    assert conclude(status=status, failed=3) == (1, ["5 passed, 3 failed, 0 skipped"])


@pytest.mark.parametrize("status", [0, -9, 3])
def test_pytest_that_left_no_counts_fails(command, tmp_path, capsys, status):
    """Whatever its status."""
    assert command.conclude(tmp_path / "result.json", status) != 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_strict_allows_less(command):
    """Of the list, only other CPythons and the long form; titles and remarks of the list allow nothing."""
    lines = [line for line in (ROOT / "tests/allowed_skips.txt").read_text().splitlines() if line]
    names = [line for line in lines if line[0] not in "#["]
    assert all(command.allowed({"test": "", "reason": f"Skipped: {name}"}) for name in names)
    always = [name for name in names if command.allowed({"test": "", "reason": f"Skipped: {name}"}, strict=True)]
    assert {name for name in names if name.startswith(("no CPython", "long form"))} <= set(always)
    assert not [name for name in always if "installed" in name or "index" in name]
    for line in set(lines) - set(names):
        assert not command.allowed({"test": "", "reason": line})


SKIPPING = """
import pytest
def test_passes(): pass
@pytest.mark.skip(reason="by mark")
def test_mark(): pass
def test_call(): pytest.skip("by call")
@pytest.mark.xfail(reason="not yet")
def test_expected(): assert False
def test_fails(): assert False
@pytest.fixture
def broken(): raise OSError
def test_error(broken): pass
"""


def test_counts_are_what_pytest_reports(tmp_path):
    """A skip by mark, by call, of a whole file, and an expected failure: each is counted with its reason."""
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_a.py").write_text(SKIPPING)
    (tmp_path / "test_b.py").write_text("import pytest\npytest.importorskip('no_such', reason='whole file')\n")
    result = tmp_path / "result.json"
    environment = {**os.environ, "MEMLEAK_TEST_RESULT": str(result)}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    counts = json.loads(result.read_text())
    assert (counts["passed"], counts["failed"], counts["skipped"]) == (1, 2, 4)
    reasons = {re.sub("^Skipped: ", "", skip["reason"]) for skip in counts["skips"]}
    assert reasons == {"by mark", "by call", "not yet", "whole file"}


APT = """#!/bin/sh
echo "$@" >> "$APT_LOG"
for word; do
    test "$word" = none-such && exit 100
done
test "$1" = install || exit 0
for word; do
    case $word in -*|install) ;; *) touch "$APT_ROOT/$word" ;; esac
done
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_what_could_not_be_installed_is_said(command, monkeypatch, tmp_path, capsys):
    """One package that cannot be had does not keep the others out, and has a line of its own."""
    (tmp_path / "bin").mkdir()
    apt = tmp_path / "bin/apt-get"
    apt.write_text(APT)
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APT_ROOT", str(tmp_path))
    monkeypatch.setenv("APT_LOG", str(tmp_path / "log"))
    wanted = {str(tmp_path / name): name for name in ("one", "none-such", "two")}
    monkeypatch.setattr(command, "SYSTEM_PACKAGES", wanted)
    command.install_system_packages()
    assert command.missing_packages() == ["none-such"] and (tmp_path / "two").exists()
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("installing none-such one two") and "could not install none-such" in last

    del wanted[str(tmp_path / "none-such")]
    calls = (tmp_path / "log").read_text()
    command.install_system_packages()
    assert capsys.readouterr().out == "" and (tmp_path / "log").read_text() == calls
