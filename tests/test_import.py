"""What ``import memleak`` costs the program that does it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

ALLOWED = {"memleak", "__future__"}
MILLISECONDS_MOST = 30.0

PROBE = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import memleak
took = time.perf_counter() - start
print({"new": sorted(set(sys.modules) - before), "ms": took * 1000})
"""


def probe() -> dict:
    """Import the package in a fresh interpreter that has imported nothing else."""
    # -S and -I would hide the installed package; -X utf8 keeps the locale from importing codecs.
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", PROBE], check=True, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)


def test_import_loads_only_allowed_modules():
    """No module beyond the list: a service pays for what it uses."""
    assert set(probe()["new"]) - ALLOWED == set()


def test_import_takes_at_most_30_ms():
    """The best of five: a busy machine makes single runs slow."""
    assert min(probe()["ms"] for _ in range(5)) <= MILLISECONDS_MOST


def test_public_names_exist():
    """Each name in __all__ can be loaded."""
    import memleak

    for name in memleak.__all__:
        assert getattr(memleak, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_this_name'"):
        memleak.nothing_of_this_name  # noqa: B018


def test_reading_needs_no_core():
    """Importing everything that reads loads neither cffi nor the core."""
    code = (
        "import sys, memleak, memleak.query, memleak.recording, memleak.locate\n"
        "print(sorted(m for m in sys.modules if 'cffi' in m or m == 'memleak._native'))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_start_loads_no_reader(runtime_directory):
    """Tracing starts without what reads recordings, and without the slow parts of the standard library."""
    code = (
        "import sys, memleak; memleak.start(); memleak.configure; memleak.mode; memleak.stop()\n"
        "print(memleak.is_running(), *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], check=True, capture_output=True, text=True)
    running, *loaded = done.stdout.split()
    assert running == "False"
    ours = {name.split(".")[1] for name in loaded if name.startswith("memleak.")}
    assert ours == {"_memleak_ffi", "_native", "config", "errors", "names", "own", "replaceable", "session"}
    slow = "argparse contextlib ctypes dataclasses elftools enum inspect pathlib re sqlite3 subprocess tempfile typing"
    assert not set(slow.split()) & set(loaded)
