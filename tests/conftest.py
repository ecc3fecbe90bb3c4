"""Fixtures every test may use, C tests as test items, and the counts that ./test prints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS), str(TESTS / "builders"), str(TESTS / "fuzz"), str(ROOT / "benchmarks")]
pytest.register_assert_rewrite("tracing", "doors", "relocations", "ownprocess", "tracedprocess", "container")

# A shell's background job has these ignored, and so would all that tests start: bash cannot trap what was ignored.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test without the variables that steer memleak."""
    for name in [name for name in os.environ if name.startswith("MEMLEAK") or name == "LD_PRELOAD"]:
        if not name.startswith("MEMLEAK_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEMLEAK_SYMBOL_CACHE", "off")  # the user's own stays as it is


@pytest.fixture
def runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this test's recordings apart: MEMLEAK_DIR names a private directory on /dev/shm."""
    import tempfile

    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="memleak-test-", dir=base))
    monkeypatch.setenv("MEMLEAK_DIR", str(directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def core_path() -> str:
    """Return the path of the installed libmemleak.so."""
    from memleak import _native

    return _native.library_path()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory):
    """Compile a C program: ``compiled(source_path_or_text, *flags)`` returns the executable's path."""
    directory = tmp_path_factory.mktemp("programs")

    def build(source: str | Path, *flags: str, name: str | None = None) -> str:
        if isinstance(source, str):
            name = name or f"program{len(list(directory.iterdir()))}"
            path = directory / f"{name}.c"
            path.write_text(source)
        else:
            path, name = source, name or source.stem
        binary = directory / name
        subprocess.run(["gcc", "-g", "-O1", "-o", str(binary), str(path), *flags], check=True)
        return str(binary)

    if shutil.which("gcc") is None:
        pytest.fail("gcc is needed to build the programs that are traced")
    return build


# ---- C tests ---------------------------------------------------------------------------------------

NATIVE_S = 3000 if os.environ.get("MEMLEAK_TEST_LONG") == "1" else 170  # the long form: 200 s of an idle machine


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.Collector | None:
    """Collect each tests/native/test_NAME.c as a test."""
    if file_path.suffix == ".c" and file_path.name.startswith("test_") and file_path.parent.name == "native":
        return NativeFile.from_parent(parent, path=file_path)
    return None


class NativeFile(pytest.File):
    """One C source, which is one program."""

    def collect(self):
        import nativebuild

        yield NativeItem.from_parent(self, name=self.path.stem)
        for words in nativebuild.further_runs(self.path):
            yield NativeItem.from_parent(self, name=f"{self.path.stem}[{' '.join(words)}]", arguments=words)


class NativeItem(pytest.Item):
    """Compile one C test against the core's objects and run it: status 0 passes, 77 skips."""

    def __init__(self, *, arguments: list[str] | None = None, **options) -> None:
        super().__init__(**options)
        self.arguments = arguments or []
        self.add_marker(pytest.mark.timeout(NATIVE_S + 60))

    def runtest(self) -> None:
        import nativebuild

        command = [str(nativebuild.test_program(self.path)), *self.arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=NATIVE_S, cwd=ROOT)
        output = f"{done.stdout}{done.stderr}".strip()
        if done.returncode == 77:
            pytest.skip(output.splitlines()[-1] if output else "skipped by the C test")
        if done.returncode != 0:
            raise NativeFailure(f"{self.path.name} returned {done.returncode}\n{output[-8000:]}")
        self.add_report_section("call", "stdout", output[-8000:])

    def repr_failure(self, excinfo, style=None):
        """Show what the program printed rather than our own Python lines."""
        return str(excinfo.value) if isinstance(excinfo.value, NativeFailure) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"native: {self.name}"


class NativeFailure(Exception):
    """A C test that did not pass."""


# ---- which process does what --------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object):
    """Hand out whole files as scheduling.py says, where ./test shares them among processes."""
    if config.getoption("dist") != "loadfile":
        return None
    import scheduling

    return scheduling.Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    if hasattr(config, "workerinput"):
        import scheduling

        items.sort(key=lambda item: scheduling.place_of(item.nodeid))


# ---- counts ------------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter) -> None:
    """Leave the counts for ./test where MEMLEAK_TEST_RESULT says."""
    target = os.environ.get("MEMLEAK_TEST_RESULT")
    if not target:
        return
    stats = terminalreporter.stats
    skips = []
    for report in [*stats.get("skipped", []), *stats.get("xfailed", [])]:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(getattr(report, "wasxfail", ""))
        skips.append({"test": report.nodeid, "reason": reason})
    Path(target).write_text(
        json.dumps(
            {
                "passed": len(stats.get("passed", [])),
                "failed": len(stats.get("failed", [])) + len(stats.get("error", [])),
                "skipped": len(skips),
                "skips": skips,
            }
        )
    )
