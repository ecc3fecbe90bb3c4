"""The Python frames of each sample equal those that the interpreter's own headers give at the same allocation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import python_witness

import compatenv
from memleak import recording

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
SAMPLES = 200_000 if LONG else 5_000
VERSIONS = compatenv.VERSIONS if LONG else ("3.10", "3.13")
RUNS_MOST = 40
GAPS = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "50", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "200", "MEMLEAK_BUDGET": "0"}
ROOM = 256 << 20 if LONG else 64 << 20


@pytest.fixture
def witnessed(request, tmp_path: Path, runtime_directory: Path):
    """Run a program under one CPython with the witness: what came of comparing, and the report."""
    version = request.param
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    library = python_witness.core(tmp_path, version)
    if library is None:
        pytest.skip(f"no headers of CPython {version} on this machine")

    def run(program: Path, *words: object, seed: int, python: str = python):
        file = tmp_path / f"witness-{seed}"
        variables = {
            **os.environ, "LD_PRELOAD": str(library), "MEMLEAK": "1", "MEMLEAK_MODE": "full", "MEMLEAK_ROOM": str(ROOM),
            "MEMLEAK_SEED": str(seed), "MEMLEAK_DIR": str(runtime_directory), "WITNESS_FILE": str(file), **GAPS,
        }  # fmt: skip
        done = subprocess.run(
            [python, str(program), *map(str, words)],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
        (path,) = runtime_directory.glob("*.mlrec")
        found = recording.load(path)
        path.unlink()
        assert found.header.python.endswith("frames read") and not found.incomplete
        report = python_witness.read(file)
        file.unlink()
        # The witness sits beside the counter of samples: what it noted is all there was.
        assert 0 <= report.samples - found.header.counters["samples"] <= sum(found.samples_lost.values())
        assert report.wrong_thread == 0
        return python_witness.compare(report, found)

    run.version = version
    return run


def check(compared: python_witness.Comparison) -> None:
    """Nothing differs. What is missing for want of room is counted, and only long tables lack lines."""
    assert not compared.wrong, (sum(compared.wrong.values()), compared.wrong.most_common(5))
    assert compared.lineless.keys() <= {"<module>"}, compared.lineless


@pytest.mark.parametrize("witnessed", VERSIONS, indirect=True)
def test_flask_and_sqlite(witnessed):
    """Each malloc and some small objects of a service with threads, sqlite calling back, exceptions, imports."""
    environment = compatenv.environment(
        f"flask-{witnessed.version}", compatenv.interpreter(witnessed.version), ["flask>=2"]
    )
    python = str(environment / "bin/python")
    compared = with_python = runs = 0
    while compared < SAMPLES and runs < RUNS_MOST:
        runs += 1
        found = witnessed(HERE / "flask_workload.py", 400 if LONG else 8, seed=runs, python=python)
        check(found)
        assert found.nameless == 0 and found.frames > 10 * found.compared
        compared += found.compared
        with_python += found.with_python
        print(f"{witnessed.version}: {found._replace(right=found.right.most_common(3))}")
    assert compared >= SAMPLES and with_python >= compared * 0.8


@pytest.mark.parametrize("witnessed", VERSIONS, indirect=True)
def test_short_lived_code(witnessed):
    """Code objects that live for one call and whose memory is used again at once."""
    objects, interval = (1_000_000, 1500) if LONG else (20_000, 50)
    found = witnessed(HERE / "short_lived_code.py", objects, interval, seed=1)
    print(f"{witnessed.version}: {found._replace(right=found.right.most_common(6))}")
    check(found)
    assert found.right["<made"] >= (20_000 if LONG else 5_000)
