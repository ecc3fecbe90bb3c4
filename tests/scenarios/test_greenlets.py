"""Greenlets and allocations without the GIL: each sample has the stack of who allocated, and nobody else's frames."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

import compatenv
from memleak import query, recording
from memleak.symbolize import Symbolizer

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
SWITCHES = 1_000_000 if LONG else 4_000
ROOM = 32 << 20
KINDS = ["greenlet", "gevent"]
PACKAGES = ["--only-binary=:all:", *KINDS]
VERSIONS = compatenv.VERSIONS
GREENLET_VERSIONS = VERSIONS if LONG else ("3.9", "3.13")


def interpreter(version: str) -> str:
    """Return a CPython; skip without."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    return python


def run(core: str, directory: Path, *command: object, **more: str) -> tuple[str, Path]:
    """Run a program with every malloc recorded; return what it printed and its recording."""
    variables = {
        **os.environ, "LD_PRELOAD": core, "MEMLEAK": "1", "MEMLEAK_MODE": "full", "MEMLEAK_ROOM": str(ROOM),
        "MEMLEAK_DIR": str(directory), **more,
    }  # fmt: skip
    done = subprocess.run([*map(str, command)], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    (path,) = directory.glob("*.mlrec")
    return done.stdout, path


def told(row: recording.RecordedRow) -> tuple[tuple[str, str, int | None], ...]:
    """Return a row's Python frames as the ledgers have them."""
    return tuple((frame.file, frame.name, frame.line) for frame in row.python_stack)


@pytest.mark.parametrize("version", GREENLET_VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_stacks_are_those_of_the_greenlet(core_path, runtime_directory, version, kind):
    """Of each place that allocates exactly as many samples as it made blocks, under exactly its own frames."""
    python = compatenv.environment(f"greenlet-{version}", interpreter(version), PACKAGES) / "bin/python"
    gaps = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "50", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "200", "MEMLEAK_BUDGET": "0"}
    output, path = run(core_path, runtime_directory, python, HERE / "greenlet_chains.py", kind, SWITCHES, **gaps)
    ledger = json.loads(output)
    assert ledger["switches"] >= SWITCHES
    expected: Counter = Counter()
    chains = set()
    for place in ledger["places"]:
        frames = tuple(map(tuple, place["frames"]))
        expected[frames, place["size"]] += place["count"]
        # The places of a chain, and those where it calls what is not its own or its next function.
        chains.update(frames[i:] for i in range(len(frames)))
    found = recording.load(path)
    assert not found.samples_lost and not found.header.counters["python_unreadable"]
    names = {frame[:2] for chain in chains for frame in chain}
    seen: Counter = Counter()
    samples = 0
    for row in found.rows:
        frames = told(row)
        first = next((i for i, frame in enumerate(frames) if frame[:2] in names), None)
        if first is None:
            assert not any(file.startswith("chain") and name != "<module>" for file, name, _ in frames), frames
            continue
        samples += row.alloc_samples
        if row.python_truncated:
            assert len(frames) == found.header.max_frames
            continue
        own = frames[first:]
        # A call of pause() at the innermost level is no place of the ledger.
        assert own in chains or own[1:] in chains or not own[1:], own
        assert len({file for file, _, _ in own[:-1]}) <= 1 and own[-1][1] == "forever", own
        each, rest = divmod(row.alloc_bytes, row.alloc_samples or 1)
        if not rest and (own, each) in expected and not first:
            seen[own, each] += row.alloc_samples
    assert seen == expected
    check_native(found)
    print(f"{version} {kind}: {ledger['switches']} switches, {samples} samples, {sum(seen.values())} of blocks")
    check_mixed(path)


def check_native(found: recording.Recording) -> None:
    """Native stacks end, whole, where the greenlet begins: else each would go on into many that are not its own."""
    ends: Counter = Counter()
    for row in found.rows:
        if not row.python_stack or row.python_stack[-1].name != "forever":
            continue
        outermost = os.path.basename(found.module(row.stack[-1].module_id).path)
        whole = outermost.startswith("_greenlet.") and not row.truncated
        # Of stacks that are too long the end is not known; among what is kept are none of our own functions.
        deep = row.truncated and len(row.stack) >= found.header.max_frames - 4
        ends["whole" if whole else "deep" if deep else "not whole"] += 1
    assert not ends["not whole"] and ends["whole"] > 2 * ends["deep"], ends


def check_mixed(path: Path) -> None:
    """Among native frames the same Python frames stand in the same order, and none of what lies below the greenlet."""
    checked = 0
    with Symbolizer(engine="none") as symbolizer:
        snapshot = query.open(path, symbolizer=symbolizer)
        for row in snapshot.top(None):
            if "forever at" not in (row.python_trace or ""):
                continue
            python = [str(frame) for frame in row.frames if frame.kind == "python"]
            assert " < ".join(python) == row.python_trace
            begins = [
                n for n, frame in enumerate(row.frames) if "UserGreenlet::inner_bootstrap(" in (frame.function or "")
            ]
            placed = [frame for frame in row.frames if frame.placed]
            assert begins in ([], [len(placed) - 1]), row.mixed_trace
            assert not begins or row.native_trace.count("inner_bootstrap") == 1
            # While greenlet switches, what separates runs of the interpreter is unlinked (3.12 and later).
            if begins and "::g_switchstack(" not in row.native_trace:
                assert all(frame.placed for frame in row.frames), row.mixed_trace
                assert "_PyEval_EvalFrameDefault" not in row.mixed_trace
                checked += 1
    assert checked


# ---- without the GIL -----------------------------------------------------------------------------------

EXTENSION = r"""
#include <Python.h>
#include <pthread.h>
#include <sched.h>

void *volatile kept[1 << 16];
static unsigned count;
static void keep(size_t size) { kept[__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED) % (1 << 16)] = malloc(size); }

static PyObject *hold(PyObject *self, PyObject *args)
{
	int n, size;
	if (!PyArg_ParseTuple(args, "ii", &n, &size))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	for (int i = 0; i < n; i++) {
		keep((size_t)size);
		if (i % 8 == 0)
			sched_yield();
	}
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

struct job { PyObject *callback; int n, size; };

static void *native(void *argument)
{
	struct job *job = argument;
	for (int i = 0; i < job->n; i++)
		keep((size_t)job->size);
	return NULL;
}

static void *borrowing(void *argument)
{
	struct job *job = argument;
	for (int i = 0; i < job->n; i++) {
		keep((size_t)job->size); // before there is a state, and after it is gone
		PyGILState_STATE state = PyGILState_Ensure();
		keep((size_t)job->size + 1); // with one, and no frame
		PyObject *result = PyObject_CallObject(job->callback, NULL);
		if (!result)
			abort();
		Py_DECREF(result);
		Py_BEGIN_ALLOW_THREADS
		keep((size_t)job->size + 2);
		Py_END_ALLOW_THREADS
		PyGILState_Release(state);
	}
	keep((size_t)job->size);
	return NULL;
}

static PyObject *run(PyObject *args, void *(*body)(void *), int calls)
{
	struct job job = {NULL, 0, 0};
	pthread_t thread;
	if (!PyArg_ParseTuple(args, calls ? "iiO" : "ii", &job.n, &job.size, &job.callback))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	if (pthread_create(&thread, NULL, body, &job) || pthread_join(thread, NULL))
		abort();
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

static PyObject *run_native(PyObject *self, PyObject *args) { return run(args, native, 0); }
static PyObject *run_borrowing(PyObject *self, PyObject *args) { return run(args, borrowing, 1); }

static PyMethodDef methods[] = {
	{"hold", hold, METH_VARARGS, ""},
	{"run_native", run_native, METH_VARARGS, ""},
	{"run_borrowing", run_borrowing, METH_VARARGS, ""},
	{NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "nogil", NULL, -1, methods};
PyMODINIT_FUNC PyInit_nogil(void) { return PyModule_Create(&module); }
"""
PROGRAM = '''
import nogil, sys, threading

N = int(sys.argv[1])
running = True

def busy():
    """Holds the GIL and allocates, whenever it may."""
    kept = []
    while running:
        kept = [bytearray(700 + n % 7) for n in range(50)]
        nested(kept)

def nested(kept):
    return [str(n) * 5 for n in range(50)]

def inner():
    nogil.hold(N, 10001)  # here: main

def outer():
    inner()  # here: outer

def in_thread():
    nogil.hold(N, 10002)  # here: thread

def called():
    called_further()  # here: called

def called_further():
    nogil.hold(3, 10003)  # here: further

def natives():
    nogil.run_native(N, 20000)
    nogil.run_borrowing(N // 10, 30000, called)

threads = [threading.Thread(target=busy) for _ in range(2)] + [threading.Thread(target=in_thread)]
for thread in threads:
    thread.start()
outer()  # here: module
natives()
running = False
for thread in threads:
    thread.join()
print(N)
'''


@pytest.mark.parametrize("version", VERSIONS)
def test_allocations_without_the_gil(core_path, runtime_directory, tmp_path, version):
    """Python threads have their frames while others run; one without a state has none, before and after one too."""
    python = interpreter(version)
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if not (Path(include) / "Python.h").exists():
        pytest.skip(f"no headers of CPython {version} on this machine")
    (tmp_path / "nogil.c").write_text(EXTENSION)
    library = tmp_path / f"nogil{sysconfig.get_config_var('SHLIB_SUFFIX')}"
    command = ["gcc", "-O1", "-g", "-fPIC", "-shared", "-w", f"-I{include}", "-pthread", "-o", str(library)]
    subprocess.run([*command, str(tmp_path / "nogil.c")], check=True)
    program = tmp_path / "without_gil.py"
    program.write_text(PROGRAM)
    times = 20_000 if LONG else 1000
    gaps = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "50", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "200", "MEMLEAK_BUDGET": "0"}
    _, path = run(core_path, runtime_directory, python, program, times, **gaps)
    found = recording.load(path)
    assert not found.samples_lost and not found.header.counters["python_unreadable"]

    def at(function: str, mark: str) -> tuple[str, str, int]:
        lines = PROGRAM.split("\n")
        return str(program), function, next(n for n, line in enumerate(lines, 1) if line.endswith(f"# here: {mark}"))

    borrowed = times // 10
    expected = {
        10001: (times, (at("inner", "main"), at("outer", "outer"), at("<module>", "module"))),
        10002: (times, (at("in_thread", "thread"), ...)),
        10003: (3 * borrowed, (at("called_further", "further"), at("called", "called"))),
        20000: (times, ()),
        30000: (borrowed + 1, ()),
        30001: (borrowed, ()),
        30002: (borrowed, ()),
    }
    seen: Counter = Counter()
    for sample in found.live:
        if sample[1] not in expected:
            continue
        frames, wanted = told(found.row_of(sample)), expected[sample[1]][1]
        if wanted[-1:] == (...,):
            assert [name.rpartition(".")[2] for _, name, _ in frames[1:]] == ["run", "_bootstrap_inner", "_bootstrap"]
            frames = (*frames[:1], ...)
        assert frames == wanted, (sample[1], frames)
        seen[sample[1]] += 1
    assert seen == {size: count for size, (count, _) in expected.items()}
