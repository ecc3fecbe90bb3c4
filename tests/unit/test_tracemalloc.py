"""memleak.tracemalloc in processes that trace themselves: what it starts, what it finds, what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ownprocess import python, recordings, said


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


IMPORTED = "import memleak.tracemalloc as tracemalloc\n"


def answers(code: str, *options: str, **variables: str) -> list[str]:
    """Run *code* with the module imported; return what it prints, line by line."""
    return said(IMPORTED + textwrap.dedent(code), *options, **variables).splitlines()


def test_importing_starts_nothing(place):
    """And without start() every question has an answer, but for the snapshot."""
    code = """
    x = [1]
    print(tracemalloc.is_tracing(), tracemalloc.get_traced_memory(), tracemalloc.get_traceback_limit())
    print(tracemalloc.get_object_traceback(x), tracemalloc.get_tracemalloc_memory(), tracemalloc._get_traces())
    tracemalloc.clear_traces(), tracemalloc.reset_peak(), tracemalloc.stop()
    print(refused(tracemalloc.take_snapshot), memleak.is_running())
    """
    assert answers(code) == ["False (0, 0) 1", "None 0 []", "RuntimeError False"]
    assert list(place.iterdir()) == []


def test_the_standard_names_are_there():
    """Each public name of the standard module, and memleak.tracemalloc without an import of its own."""
    code = """
    import tracemalloc as standard
    public = {name for name in dir(standard) if not name.startswith("_")}
    modules = {"Iterable", "Sequence", "fnmatch", "os", "pickle", "total_ordering", "BaseFilter"}
    print(public - set(dir(memleak.tracemalloc)) - modules)
    """
    assert said(code.replace("\n    ", "\n")).splitlines() == ["set()"]


def test_start_and_stop():
    """Full mode, from here on; a second start changes nothing, and stop() forgets."""
    code = """
    print(refused(tracemalloc.start, 0), refused(tracemalloc.start, 65536), refused(tracemalloc.start, mode="off"))
    tracemalloc.start(3)
    tracemalloc.start(7)
    print(memleak.mode(), requested()[:4], tracemalloc.get_traceback_limit())
    held = bytes(5000)
    print(tracemalloc.take_snapshot().exact, len(tracemalloc.get_object_traceback(held)))
    print(tracemalloc.get_tracemalloc_memory() > 100_000)
    tracemalloc.stop()
    print(memleak.is_running(), tracemalloc.get_traced_memory(), tracemalloc.get_object_traceback(held))
    tracemalloc.start(7)
    print(tracemalloc.get_traceback_limit(), tracemalloc.get_object_traceback(held))
    """
    assert answers(code) == [
        "ValueError ValueError ValueError", "full (1, 1, 1, 1) 3", "True 1", "True", "False (0, 0) None", "7 None",
    ]  # fmt: skip


def test_same_tracebacks_as_the_standard_module():
    """Of objects of many layouts, with both tracing; and the same sizes."""
    code = """
    import collections, tracemalloc as standard
    class Plain: pass
    class Slots: __slots__ = ("a",)
    class Weak: __slots__ = ("__weakref__",)
    class Number(int): pass
    class Text(str): pass
    class Table(dict): pass
    class Error(Exception): pass
    def generate(): yield 1
    def make():
        return [
            Plain(), Slots(), Weak(), Number(10**30), Text("x" * 100), Table(a=1), Error("x"), generate(), lambda: 1,
            set(range(9)), bytes(700), bytearray(10), collections.deque(), collections.OrderedDict(a=1),
            int("7" * 50), str(list(range(99))), object(), type("Made", (), {}), memoryview(bytes(9)),
        ]
    standard.start(4)
    tracemalloc.start(4)
    made = make()
    for one in made:
        theirs, ours = standard.get_object_traceback(one), tracemalloc.get_object_traceback(one)
        # CPython 3.11 does not find objects with a dict of their own.
        print(theirs in (ours, None), ours and len(ours), type(one).__name__)
    sizes = [sorted(t.size for t in s.take_snapshot().traces if t.domain == 0 and t.traceback[-1].lineno ==
             tracemalloc.get_object_traceback(made[0])[-1].lineno) for s in (standard, tracemalloc)]
    print(len(sizes[0]) > 10)
    """
    *lines, enough = answers(code)
    wrong = [line for line in lines if not line.startswith("True 2 ")]
    assert not wrong and len(lines) == 19 and enough == "True"


def test_what_is_not_pythons_has_other_domains():
    """A block that C asked malloc for is there with its Python line, and a filter tells it apart."""
    code = """
    tracemalloc.start(5)
    held = keep(100)
    of_c = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(False, 0)])
    top = of_c.statistics("lineno")[0]
    print(top.size, top.count, {trace.domain for trace in of_c.traces if trace.size == 1000})
    """
    assert answers(code) == ["100000 100 {1}"]


def test_native_can_be_left_out():
    """By the variable that does so for memleak.start()."""
    code = """
    tracemalloc.start(5)
    held = keep(100)
    print({trace.domain for trace in tracemalloc.take_snapshot().traces})
    """
    assert answers(code, MEMLEAK_NATIVE="0") == ["{0}"]


def test_clear_traces(place):
    """Nothing before it is shown, or kept as a file; what comes later is, blocks that are moved by realloc, too."""
    code = """
    tracemalloc.start(2)
    early, grows = bytes(5000), bytearray(3000)
    for _ in range(3):
        tracemalloc.clear_traces()
    print(tracemalloc.get_traced_memory(), tracemalloc.get_object_traceback(early))
    grows.extend(bytes(50_000))
    late = bytes(7000)
    print([t.size for t in tracemalloc.take_snapshot().traces if t.size > 5000 and t.domain == 0].__len__())
    print(tracemalloc.get_object_traceback(late) is not None, tracemalloc.is_tracing())
    """
    assert answers(code) == ["(0, 0) None", "2", "True True"]
    assert len(recordings(place)) == 1


# -- a recording that is there already ---------------------------------------------------------------


def test_a_recording_that_is_there_is_left_as_it_is(place):
    """Its knobs, and that it goes on; what it has seen before is shown."""
    code = """
    memleak.start(2, 20, python_min_sample_interval=2, python_max_sample_interval=20, budget=0)
    early = [bytes(1000) for _ in range(20_000)]
    print(tracemalloc.is_tracing())
    tracemalloc.start(3)
    print(tracemalloc.is_tracing(), requested()[:4])
    snapshot = tracemalloc.take_snapshot()
    top = snapshot.statistics("lineno")[0]
    true = 20_000 * sys.getsizeof(early[0])
    print(snapshot.exact, top.samples < 3_000, top.size_low < true < top.size_high, abs(top.size / true - 1) < 0.2)
    print(abs(tracemalloc.get_traced_memory()[0] / true - 1) < 0.3)
    tracemalloc.stop()
    print(tracemalloc.is_tracing(), memleak.is_running(), tracemalloc.get_traced_memory())
    """
    assert answers(code) == [
        "False", "True (2, 20, 2, 20)", "False True True True", "True", "False True (0, 0)",
    ]  # fmt: skip
    assert len(recordings(place)) == 1


def test_clearing_hides_but_keeps(place):
    """What is cleared is not shown any more, and the recording still has it."""
    code = """
    memleak.start(1, 1)
    early = [bytes(1000) for _ in range(5_000)]
    tracemalloc.start(3)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.clear_traces()
    size, peak = tracemalloc.get_traced_memory()
    print(before > 5_000_000, size < 100_000, peak < 200_000)
    late = [bytes(2000) for _ in range(1_000)]
    sizes = [trace.size for trace in tracemalloc.take_snapshot().traces]
    print(sizes.count(sys.getsizeof(early[0])), sizes.count(sys.getsizeof(late[0])))
    size, peak = tracemalloc.get_traced_memory()
    print(2_000_000 < size < 2_300_000, size <= peak < 2_400_000)
    print(memleak.snapshot().filter(est_bytes=lambda size: size > 5_000_000)[0].est_count)
    """
    assert answers(code) == ["True True True", "0 1000", "True True", "5000"]
    assert len(recordings(place)) == 1


def test_memleak_stop_ends_it():
    """is_tracing() tells, and a later start() begins anew."""
    code = """
    tracemalloc.start()
    memleak.stop()
    print(tracemalloc.is_tracing(), refused(tracemalloc.take_snapshot))
    tracemalloc.start()
    print(tracemalloc.is_tracing(), memleak.mode())
    """
    assert answers(code) == ["False RuntimeError", "True full"]


# -- where and how -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "variables"), [("mode='normal'", {}), ("", {"MEMLEAK_TRACEMALLOC": "normal"})])
def test_sampled(call, variables):
    """The knobs are memleak.start()'s, the environment's among them; numbers are estimates with limits."""
    code = f"""
    tracemalloc.start({call})
    print(memleak.mode(), requested()[2:4])
    held = [bytes(300) for _ in range(300_000)]
    snapshot = tracemalloc.take_snapshot()
    (top,) = [s for s in snapshot.statistics("traceback") if s.size > 50_000_000]
    true = 300_000 * sys.getsizeof(held[0])
    print(snapshot.exact, len(snapshot.traces) < 30_000, abs(top.size / true - 1) < 0.2, top.size_se > 0)
    """
    narrower = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "4", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "64"}
    assert answers(code, MEMLEAK_BUDGET="0", **narrower, **variables) == ["normal (4, 64)", "False True True True"]


def test_forked_child():
    """It goes on in a recording of its own, which begins empty."""
    code = """
    tracemalloc.start()
    early = bytes(5000)
    if (pid := os.fork()) == 0:
        good = tracemalloc.is_tracing() and tracemalloc.get_object_traceback(early) is None
        late = bytes(6000)
        good = good and tracemalloc.get_object_traceback(late) is not None and len(tracemalloc.take_snapshot().traces)
        tracemalloc.clear_traces()
        good = good and tracemalloc.get_object_traceback(late) is None and tracemalloc.is_tracing()
        os._exit(0 if good else 1)
    print(os.waitpid(pid, 0)[1], tracemalloc.get_object_traceback(early) is not None)
    """
    assert answers(code) == ["0 True"]


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        (("-X", "tracemalloc"), {}, "True 1"),
        (("-X", "tracemalloc=5"), {"PYTHONTRACEMALLOC": "7"}, "True 5"),
        ((), {"PYTHONTRACEMALLOC": "7"}, "True 7"),
        ((), {"PYTHONTRACEMALLOC": "0"}, "False 1"),
        ((), {"PYTHONTRACEMALLOC": ""}, "False 1"),
        (("-E",), {"PYTHONTRACEMALLOC": "7"}, "False 1"),
    ],
)
def test_what_the_interpreter_was_asked_for(options, variables, expected):
    """Begins when the module is imported."""
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    code = f"import sys; sys.path[:0] = {path!r}\n" + IMPORTED
    code += "print(tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())"
    done = plainly(code, *options, **variables)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def plainly(code: str, *options: str, **variables: str):
    """Run *code* without the preamble, which -E would not find."""
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env={**os.environ, **variables}
    )


def test_where_tracing_is_forbidden():
    """Nothing fails but the snapshot."""
    code = """
    tracemalloc.start()
    print(tracemalloc.is_tracing(), tracemalloc.get_traced_memory(), refused(tracemalloc.take_snapshot))
    """
    assert answers(code, MEMLEAK_DISABLE="1") == ["False (0, 0) RuntimeError"]


def test_a_mode_that_does_not_exist():
    """In the environment, too, it is said at once."""
    done = python(IMPORTED + "tracemalloc.start()", MEMLEAK_TRACEMALLOC="sampled")
    assert done.returncode == 1 and "mode must be one of full, normal, not 'sampled'" in done.stderr
