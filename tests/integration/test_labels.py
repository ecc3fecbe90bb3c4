"""Labels reach the samples that are taken under them, whoever allocates and whichever CPython runs."""

from __future__ import annotations

import subprocess

import pytest
from tracing import PROGRAMS, Tracer

import compatenv
from memleak import query, recording

PROGRAM = PROGRAMS / "labelled_work.py"
STEP, NOBODYS = 8, 40_000
BASES = {10_000: "object", 20_000: "driver", 30_000: "pooled"}
OWNERS = 250


@pytest.fixture(params=compatenv.VERSIONS)
def python(request) -> str:
    """A CPython that has the package."""
    found = compatenv.python_with_package(request.param)
    if found is None:
        pytest.skip(f"no CPython {request.param} on this machine")
    return found


def do(python, code: str, runtime_directory, **env: str) -> recording.Recording:
    """Run *code*, which traces itself, and return its recording."""
    import os

    variables = {**os.environ, "XDG_RUNTIME_DIR": str(runtime_directory), "MEMLEAK_DIR": str(runtime_directory), **env}
    done = subprocess.run([python, "-c", code], env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done
    print(done.stdout)
    (path,) = runtime_directory.glob("*.mlrec")
    return recording.load(path)


def traced(python, runtime_directory) -> Tracer:
    """Preload the core of the package that *python* has."""
    code = "from memleak import _native; print(_native.library_path())"
    core = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    return Tracer(core, runtime_directory)


def test_storm(python, runtime_directory):
    """Whatever happens to contexts, and when the interpreter ends: nothing is read that is not there."""
    intervals = {f"MEMLEAK_{side}{end}_SAMPLE_INTERVAL": n for side in ("", "PYTHON_") for end, n in (("MIN", "1"), ("MAX", "5"))}
    tracer = traced(python, runtime_directory)
    done = tracer.run(python, PROGRAM.with_name("label_storm.py"), "2", env={"MEMLEAK_MODE": None, **intervals})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (path,) = runtime_directory.glob("*.mlrec")
    found = recording.load(path)
    assert found.header.label_state == 1 and found.header.counters["samples"] > 10_000
    seen = {labels for row in found.rows for labels in [row.labels] if labels}
    assert seen <= {labels for labels in seen if is_of_the_storm(dict(labels))}
    outcomes = {dict(labels).get("outcome") for labels in seen}
    assert {"ok", "ValueError"} <= outcomes
    assert found.calls.keys() >= {labels for labels in seen if dict(labels).get("outcome") == "ValueError" and len(labels) == 3}


def is_of_the_storm(labels: dict[str, str]) -> bool:
    """Whether label_storm.py sets such labels."""
    known = {**{"n": {str(n) for n in range(100)}, "m": {"0", "1", "2"}}, "outcome": {"ok", "ValueError"}}
    rest = {name: value for name, value in labels.items() if name in known}
    all_right = all(value in known[name] for name, value in rest.items()) and ("m" in labels) == ("outcome" in labels)
    return all_right and labels.keys() - rest.keys() <= {"x", "other"}


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_tasks_threads_and_drivers(python, mode, runtime_directory):
    """200 tasks and 50 threads: at least 99.5 % of the sampled bytes are under the right label."""
    tracer = traced(python, runtime_directory)
    # Each of the program's own: in full mode what is imported has more stacks than there is room for.
    full = ("1", "1", "10000", "10000") if mode == "full" else ("16", "256", "256", "4096")
    names = (f"MEMLEAK_{side}{end}_SAMPLE_INTERVAL" for side in ("", "PYTHON_") for end in ("MIN", "MAX"))
    env = {"MEMLEAK_MODE": None, **dict(zip(names, full))}
    started = tracer.start(python, PROGRAM, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "ready\n"
    found = query.open(started.pid).recordings[0]
    started.communicate("")
    right = wrong = 0
    kinds = dict.fromkeys(BASES.values(), 0)
    for sample in found.live:
        size, labels = sample[1], dict(found.row_of(sample).labels)
        base = size // 10_000 * 10_000
        owner = (size - base) // STEP
        if size == NOBODYS:
            assert not labels
        if base not in BASES or (size - base) % STEP or owner >= OWNERS:
            continue
        if labels.get("owner") == str(owner) and labels.get("kind") == ("task" if owner < 200 else None):
            right += size
            kinds[BASES[base]] += 1
        else:
            wrong += size
            print(size, owner, labels)
    assert right >= 0.995 * (right + wrong)
    assert all(count >= (200 if mode == "full" else 0) for count in kinds.values())
    assert kinds["object"] and kinds["driver"]
    assert found.header.label_state == 1
    assert len({labels for row in found.rows for labels in [row.labels] if labels}) <= 255
    print(f"{mode}: {right / (right + wrong):.5f} of {right + wrong} bytes in {kinds}")
