"""Recordings of every released format are read as they were when they were made.

A golden file is made once per format, by the core that first wrote it, and never again:

    python tests/test_golden.py LIBMEMLEAK PROGRAM      # PROGRAM: golden_service.c compiled

writes tests/data/format-N.mlrec.gz and, beside it, what a reader said of it that day.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


def summary(raw: bytes) -> dict:
    """Return what must never change about a recording: its rows, samples, modules and counters."""
    from memleak import recording
    from memleak.query import Snapshot

    found = recording.parse(raw, "golden")
    rows = [
        [row.mod_name, row.back_trace, row.alloc_count, row.alloc_bytes, row.est_count, row.est_bytes, row.total_bytes, row.peak_bytes]
        for row in Snapshot([found]).rows()
    ]
    return {
        "version": found.header.version,
        "state": found.header.state_name,
        "command": found.header.command,
        "requested": list(found.header.requested),
        "counters": {name: value for name, value in found.header.counters.items() if value},
        "modules": [[module.path, module.build_id] for module in found.modules],
        "threads": len(found.threads),
        "live": len(found.live),
        "torn": found.torn,
        "incomplete": list(found.incomplete),
        "rows": sorted(rows, key=lambda row: (row[0] or "", row[1])),
    }


def pytest_generate_tests(metafunc) -> None:
    """One test per golden file."""
    if "golden" in metafunc.fixturenames:
        files = sorted(DATA.glob("format-*.mlrec.gz"))
        metafunc.parametrize("golden", files, ids=[path.name for path in files])


def test_there_is_one_for_the_format_written_now() -> None:
    """A new format comes with its golden file."""
    from memleak import layout

    assert (DATA / f"format-{layout.VERSION}.mlrec.gz").exists()


def test_golden(golden: Path) -> None:
    """Everything, down to the last estimate."""
    expected = json.loads(golden.with_suffix("").with_suffix(".json").read_text())
    assert summary(gzip.decompress(golden.read_bytes())) == expected


def make(library: str, program: str) -> None:
    """Record *program* once and keep the recording and its summary."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        env = {"LD_PRELOAD": library, "MEMLEAK": "1", "MEMLEAK_DIR": directory, "MEMLEAK_SEED": "1", "MEMLEAK_ROOM": "1M"}
        subprocess.run([program], env=env, check=True)
        (path,) = Path(directory).glob("*.mlrec")
        raw = path.read_bytes()
    facts = summary(raw)
    target = DATA / f"format-{facts['version']}.mlrec.gz"
    if target.exists():
        sys.exit(f"{target} exists: a golden file is never made again")
    target.write_bytes(gzip.compress(raw, 9, mtime=0))
    target.with_suffix("").with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    make(os.path.abspath(sys.argv[1]), sys.argv[2])
