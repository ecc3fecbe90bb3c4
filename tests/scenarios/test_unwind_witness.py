"""Backtraces of a real service equal libgcc's, frame by frame."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nativebuild
import pytest

HERE = Path(__file__).resolve().parent
PARTS = ("elfimage", "dwarf", "cfi", "objects", "modules_seen", "snapshot", "modules", "unwind", "unwind_step", "unwind_thread", "stats", "clock")
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the preload library that unwinds twice."""
    library = tmp_path_factory.mktemp("witness") / "libwitness.so"
    objects = [nativebuild.core_object(path) for path in nativebuild.core_sources() if path.stem in PARTS]
    flags = [flag for flag in nativebuild.flags() if flag not in ("-mgeneral-regs-only", "-Wframe-larger-than=1536", "-Wmissing-prototypes")]
    command = ["gcc", *flags, f"-I{nativebuild.NATIVE / 'src'}", "-shared", "-o", str(library), str(HERE / "unwind_witness.c")]
    subprocess.run([*command, *map(str, objects), "-lgcc_s"], check=True)
    return library


@pytest.mark.skipif(importlib.util.find_spec("flask") is None, reason="flask is not installed")
@pytest.mark.parametrize("modules", ["loader", "snapshot"])
def test_stacks_of_a_flask_service_equal_libgccs(witness: Path, tmp_path: Path, modules: str) -> None:
    """PYTHONMALLOC=malloc makes every interpreter allocation a candidate."""
    report = tmp_path / "report"
    env = {**os.environ, "LD_PRELOAD": str(witness), "WITNESS_REPORT": str(report), "PYTHONMALLOC": "malloc"}
    if modules == "snapshot":
        env["WITNESS_SNAPSHOT"] = "1"
    env["WITNESS_EVERY"] = "2" if LONG else "7"
    requests = "1200" if LONG else "240"
    done = subprocess.run([sys.executable, str(HERE / "flask_workload.py"), requests], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
    text = report.read_text()
    match = re.search(r"stacks (\d+) frames (\d+) mismatches (\d+) truncated (\d+) skipped (\d+)", text)
    assert match, text[-2000:]
    stacks, frames, mismatches, truncated, skipped = map(int, match.groups())
    print(f"{modules}: {stacks} stacks, {frames / stacks:.1f} frames each, {truncated} truncated, {skipped} skipped")
    assert mismatches == 0, text[:4000]
    with_numpy = importlib.util.find_spec("numpy") is not None
    assert stacks > (1_000_000 if LONG else 100_000) / (1 if with_numpy else 5)
    # With the loader's help ours are cut nowhere; our own snapshot may be a moment behind a dlopen.
    assert truncated <= (0 if modules == "loader" else stacks / 100)
    assert skipped <= stacks / 100
