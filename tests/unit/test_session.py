"""start, stop, configure, mode and tracing."""

from __future__ import annotations

from pathlib import Path

import pytest
import recordingwriter
from ownprocess import python, recordings, said

DEFAULTS = (16, 256, 256, 4096, 4 << 20)


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


# ---- arguments -------------------------------------------------------------------------------------------

BAD = [
    {"min_sample_interval": 0},
    {"max_sample_interval": 10001},
    {"min_sample_interval": 257},
    {"max_sample_interval": 15},
    {"min_sample_interval": 9, "max_sample_interval": 8},
    {"min_sample_interval": True},
    {"min_sample_interval": 4.0},
    {"max_sample_interval": "256"},
    {"python_min_sample_interval": 0},
    {"python_min_sample_interval": 4097},
    {"python_max_sample_interval": 255},
    {"python_min_sample_interval": 9, "python_max_sample_interval": 8},
    {"python_max_sample_interval": True},
    {"sample_bytes": 4095},
    {"sample_bytes": -1},
    {"sample_bytes": "4M"},
    *({"focus": bad} for bad in ("", "libfoo.so", "module=", "label=a", "mod=heap", "module=" + "x" * 249, 7)),
]
BAD_START = [
    *BAD,
    *({"max_frames": bad} for bad in (0, 65, None)),
    *({"recording": bad} for bad in ("", "a\0b")),
    *({"python": bad} for bad in (0, 1, "no")),
    *({"native": bad} for bad in (0, 1, "no")),
    {"native": False, "python": False},
]


def test_bad_values_are_refused_before_anything_happens(place):
    """ValueError, also on entry to tracing(), and nothing is started."""
    code = f"""
    for arguments in {BAD_START!r}:
        assert refused(memleak.start, **arguments) == "ValueError", arguments
        assert refused(memleak.tracing(**arguments).__enter__) == "ValueError", arguments
        assert not memleak.is_running(), arguments
    """
    assert said(code) == ""
    assert list(place.iterdir()) == []


def test_a_bad_value_beside_good_ones_changes_nothing():
    """Neither the knobs of a running recording, nor where its copy goes."""
    code = f"""
    memleak.start(20, 200)
    for bad in {BAD!r}:
        if "max_sample_interval" in bad and bad["max_sample_interval"] == 15:
            bad["max_sample_interval"] = 19
        for function in (memleak.start, memleak.configure):
            assert refused(function, **{{"sample_bytes": 8192, **bad}}) == "ValueError", bad
    assert refused(memleak.start, 30, recording="/nonexistent/x") == "FileNotFoundError"
    assert refused(memleak.start, 30, recording=5) == "TypeError"
    assert refused(memleak.mode, "loud") == "ValueError"
    print(requested(), memleak.mode())
    """
    assert said(code) == f"(20, 200, 256, 4096, {4 << 20}) normal\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ("", {}, DEFAULTS),
        ("", {"MEMLEAK_MODE": "full"}, (1, 1, 1, 1, 4 << 20)),
        ("", {"MEMLEAK_MODE": "off", "MEMLEAK_SAMPLE_BYTES": "1M"}, (10_000, 10_000, 10_000, 10_000, 1 << 20)),
        ("", {"_min_malloc_sample_interval": "3", "_max_malloc_sample_interval": "30"}, (3, 30, 256, 4096, 4 << 20)),
        ("", {"_min_malloc_sample_interval": "3", "MEMLEAK_MIN_SAMPLE_INTERVAL": "5"}, (5, 256, 256, 4096, 4 << 20)),
        ("16, 256", {"MEMLEAK_MODE": "full", "MEMLEAK_SAMPLE_BYTES": "8K"}, (16, 256, 256, 4096, 8 << 10)),
        ("8", {"MEMLEAK_MIN_SAMPLE_INTERVAL": "4", "MEMLEAK_MAX_SAMPLE_INTERVAL": "64"}, (8, 64, 256, 4096, 4 << 20)),
        ("sample_bytes=0", {"MEMLEAK_MODE": "full", "MEMLEAK_SAMPLE_BYTES": "8K"}, (1, 1, 1, 1, 0)),
        ("max_sample_interval=20", {"MEMLEAK_MIN_SAMPLE_INTERVAL": "10"}, (10, 20, 256, 4096, 4 << 20)),
        ("1, 1", {}, (1, 1, 1, 1, 4 << 20)),
        ("1, 1, python_min_sample_interval=8, python_max_sample_interval=80", {}, (1, 1, 8, 80, 4 << 20)),
        ("", {"MEMLEAK_MODE": "full", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "9"}, (1, 1, 1, 9, 4 << 20)),
        ("python_min_sample_interval=5", {"MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "500"}, (16, 256, 5, 500, 4 << 20)),
    ],
)
def test_arguments_win_over_the_environment(arguments, environ, expected):
    """What is not given comes from the environment, and else is the default."""
    code = f"memleak.start({arguments}); s = memleak.status(); print(s.requested == s.effective, requested())"
    assert said(code, MEMLEAK_PYTHON="0", **environ) == f"True {expected}\n"


def test_an_environment_that_does_not_fit_gives_way():
    """What the code asks for is not made wrong by its surroundings; one line for each setting left out."""
    done = python(
        "memleak.start(min_sample_interval=32); print(requested())",
        MEMLEAK_MODE="full", MEMLEAK_SAMPLE_BYTES="few",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"(32, 256, 256, 4096, {4 << 20})\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("memleak: MEMLEAK_SAMPLE_BYTES ignored: ")
    assert lines[1].startswith("memleak: max_sample_interval of the environment ignored: ")


def test_most_frames_are_kept_as_asked(place):
    """A backtrace has at most max_frames frames."""
    said("memleak.start(1, 1, max_frames=3); held = keep(100)")
    (found,) = recordings(place)
    assert found.header.max_frames == 3
    assert max(len(row.stack) for row in found.rows) == 3


# ---- starting and stopping -------------------------------------------------------------------------------


def test_starting_again_changes_only_what_is_given(place):
    """One recording; knobs as by configure()."""
    code = """
    memleak.start(20, 200)
    path = memleak.status().recording
    memleak.start()
    memleak.start(max_sample_interval=100)
    memleak.start(sample_bytes=0, max_frames=5, python=False)
    assert memleak.status().recording == path
    print(requested())
    """
    assert said(code, MEMLEAK_MIN_SAMPLE_INTERVAL="7") == "(20, 100, 256, 4096, 0)\n"
    (found,) = recordings(place)
    assert found.header.max_frames == 64
    assert found.header.counts_python


def test_many_threads_start_one_recording(place):
    """All return when it is on."""
    code = """
    barrier = threading.Barrier(16)
    seen = []
    def run():
        barrier.wait()
        memleak.start()
        seen.append(memleak.is_running())
    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(seen == [True] * 16)
    """
    assert said(code) == "True\n"
    assert len(recordings(place)) == 1


def test_asked_for_the_mode_while_another_thread_starts_and_stops(place):
    """It is on, with its mode, or it is off; never a recording that is just being opened."""
    code = """
    sys.setswitchinterval(1e-6)
    problems, done = [], threading.Event()
    def ask():
        while not done.is_set():
            try:
                memleak.mode()
            except memleak.TargetError:
                pass
            except Exception as error:
                problems.append(repr(error))
                return
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads: thread.start()
    for _ in range(100):
        memleak.start()
        memleak.stop()
    done.set()
    for thread in threads: thread.join()
    print(problems)
    """
    assert said(code, MEMLEAK_ROOM="2M") == "[]\n"


def test_first_use_while_another_thread_loads_the_core_module(place):
    """That one has a module already which is but half made: names and questions are there for whoever comes meanwhile."""
    code = f"""
    import types
    sys.path.append({str(Path(recordingwriter.__file__).parent)!r})
    from recordingwriter import RecordingWriter
    sys.modules["memleak._native"] = types.ModuleType("memleak._native")
    from memleak import recording
    from memleak.query import Snapshot
    print(memleak.TargetError.__name__, Snapshot(recording.parse(RecordingWriter().bytes())).top(1))
    """
    assert said(code) == "TargetError []\n"


def test_first_use_from_many_threads(place):
    """Whichever call comes first finds the core whole; the process is traced in the end. test_boot.c does it in C."""
    code = """
    from memleak import _memleak_ffi, _native  # imported: else one after the other
    calls, arrived, problems = (memleak.is_running, memleak.start, _native.build_id, memleak.status) * 2, [], []
    sys.setswitchinterval(1e-6)
    def run(call):
        arrived.append(call)
        while len(arrived) < len(calls): pass
        try:
            call()
        except Exception as error:
            problems.append(repr(error))
    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(problems, memleak.is_running())
    """
    for number in range(1, 6):  # each in a process that has not used it yet
        assert said(code) == "[] True\n"
        assert len(recordings(place)) == number


def test_stop_freezes_and_start_opens_a_new_one(place):
    """stop() may come first and twice; the frozen recording stays readable."""
    code = """
    memleak.stop()
    memleak.start(1, 1)
    held = keep(500)
    memleak.stop(); memleak.stop()
    first = memleak.status()
    held += keep(500)
    assert memleak.snapshot().recordings[0].raw == memleak.snapshot().recordings[0].raw
    assert not memleak.is_running() and memleak.snapshot().alive == (False,)
    assert memleak.status().samples == first.samples >= 500
    for change in (memleak.mode, memleak.configure, lambda: memleak.mode("full")):
        assert refused(change) == "TargetError"
    memleak.start()
    second = memleak.status()
    print(first.state, second.state, first.recording == second.recording)
    """
    assert said(code) == "stopped recording False\n"
    first, second = recordings(place)
    assert (first.header.state_name, second.header.state_name) == ("stopped", "exited")


# ---- knobs -----------------------------------------------------------------------------------------------


def test_configure_and_mode(place):
    """A knob that is not given keeps its value; the pair is checked together; others see it."""
    code = """
    assert refused(memleak.configure, sample_bytes=0) == "TargetError"
    assert refused(memleak.mode) == refused(memleak.mode, "full") == "TargetError"
    memleak.start(budget=0)
    memleak.configure(min_sample_interval=100); print(requested())
    assert refused(memleak.configure, max_sample_interval=99) == "ValueError"
    memleak.configure(); print(requested())
    memleak.configure(min_sample_interval=2, max_sample_interval=3, sample_bytes=1 << 20)
    memleak.configure(python_min_sample_interval=20, python_max_sample_interval=30)
    held, objects = keep(200), [object() for _ in range(200)]
    assert tuple(memleak.status().effective) == requested() == (2, 3, 20, 30, 1 << 20)
    assert refused(memleak.configure, sample_bytes=0, python_max_sample_interval=19) == "ValueError"
    def change(name):
        return memleak.mode(name), requested()[:4]
    print([change(name) for name in ("full", "off", "normal")], memleak.mode(), requested())
    """
    first = (100, 256, 256, 4096, 4 << 20)
    modes = [("full", (1,) * 4), ("off", (10_000,) * 4), ("normal", (16, 256, 256, 4096))]
    assert said(code) == f"{first}\n{first}\n{modes} normal (16, 256, 256, 4096, {1 << 20})\n"


def test_budget():
    """What is not given is as the environment says, else 1 %; it is changed and put back like the knobs."""
    code = """
    def budget(): return memleak.status().governor.budget
    assert memleak.status().governor is None
    for bad in (-0.1, 1.1, 1e-7, float("nan"), "0.01", True):
        assert refused(memleak.start, budget=bad) == "ValueError" and not memleak.is_running()
    memleak.start(); print(budget())
    assert refused(memleak.configure, budget=2) == "ValueError"
    memleak.configure(budget=0.05, min_sample_interval=100); print(budget(), requested()[0])
    memleak.configure(budget=0); print(budget(), "no budget" in str(memleak.status()))
    with memleak.tracing(budget=1):
        print(budget())
    memleak.start(budget=0.000001); print(budget())
    memleak.configure(max_sample_interval=300); print(budget())
    memleak.stop()
    assert refused(memleak.configure, budget=0.1) == "TargetError"
    memleak.start(budget=0.25); print(budget())
    """
    after = "0.05 100\n0.0 True\n1.0\n1e-06\n1e-06\n0.25\n"
    assert said(code) == "0.01\n" + after
    assert said(code, MEMLEAK_BUDGET=" .125 ") == "0.125\n" + after
    done = python("memleak.start(); print(memleak.status().governor.budget)", MEMLEAK_BUDGET="1.5")
    words = "memleak: MEMLEAK_BUDGET is out of range or not a number, using the default: 1.5\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.01\n", words)


def test_governor_in_words():
    """status() says what the governor does: heavy sampling is widened, full mode and off are left alone."""
    code = """
    memleak.start(1, 8, sample_bytes=4096, budget=0.0001)
    while not memleak.status().governor.widened > 1:
        held = keep(10000)
    status = memleak.status()
    assert status.effective.max_sample_interval > 8 == status.requested.max_sample_interval
    assert "x wider than requested" in str(status) or "at their widest" in str(status), status
    memleak.mode("full"); held = keep(100); memleak.configure(budget=0.0002)
    while memleak.status().governor.acts:
        held = keep(10000)
    assert "budget 0.02 %: nothing to widen" in str(memleak.status())
    assert memleak.status().effective[:4] == (1, 1, 1, 1)
    """
    assert said(code) == ""


def test_python_goes_with_the_others_into_full_and_back():
    """configure(1, 1) is of Python too, unless it says something else of Python."""
    code = """
    memleak.start()
    memleak.configure(min_sample_interval=1, max_sample_interval=1); print(requested()[:4])
    memleak.configure(min_sample_interval=20, max_sample_interval=200); print(requested()[:4])
    memleak.configure(
        min_sample_interval=1, max_sample_interval=1, python_min_sample_interval=64, python_max_sample_interval=640
    )
    print(requested()[:4], memleak.mode())
    """
    assert said(code) == "(1, 1, 1, 1)\n(20, 200, 256, 4096)\n(1, 1, 64, 640) full\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "looked_at"),
    [
        ("", {}, True),
        ("", {"MEMLEAK_PYTHON": "1"}, True),
        ("", {"MEMLEAK_PYTHON": "0"}, False),
        ("python=False", {}, False),
        ("python=True", {"MEMLEAK_PYTHON": "0"}, True),
    ],
)
def test_python_is_looked_at_unless_told_not_to(place, arguments, environ, looked_at):
    """Frames and small objects both; native allocations are sampled all the same."""
    code = f"""
    memleak.start(1, 1{", " * bool(arguments)}{arguments})
    held, objects = keep(100), [object() for _ in range(1000)]
    memleak.stop()
    status = memleak.status()
    text = str(status)
    assert ("python_min_sample_interval 1" in text) == status.counts_python
    print(status.counts_python, status.python.endswith(": frames read"))
    """
    assert said(code, **environ) == f"{looked_at} {looked_at}\n"
    (found,) = recordings(place)
    names = {row.mod_name for row in found.rows if row.alloc_samples}
    assert "glibc_malloc" in names and ("pymalloc_obj" in names) == looked_at
    assert any(row.python_stack for row in found.rows) == looked_at


PYTHON = {"pymalloc_obj", "pymalloc_mem", "pymem_raw"}


@pytest.mark.parametrize(
    ("arguments", "environ", "sampled"),
    [
        ("", {"MEMLEAK_NATIVE": "1"}, True),
        ("", {"MEMLEAK_NATIVE": "0"}, False),
        ("native=False", {}, False),
        ("native=True", {"MEMLEAK_NATIVE": "0"}, True),
    ],
)
def test_native_is_sampled_unless_told_not_to(place, arguments, environ, sampled):
    """Python's objects are, whatever their size; status() says so."""
    code = f"""
    memleak.start(1, 1{", " * bool(arguments)}{arguments})
    held, objects = keep(100), [bytes(n) for n in range(2000)]
    memleak.stop()
    status = memleak.status()
    assert ("\\nnative     allocations not sampled" in str(status)) == (status.live_malloc is None)
    print(status.counts_native, status.counts_python, status.live_malloc is None, status.exact)
    """
    assert said(code, **environ) == f"{sampled} True {not sampled} True\n"
    (found,) = recordings(place)
    names = {row.mod_name for row in found.rows if row.alloc_samples}
    assert ("glibc_malloc" in names) == sampled
    assert sampled or names <= PYTHON
    objects = [row.live for row in found.rows if row.mod_name == "pymalloc_obj"]
    assert sum(live.samples for live in objects if live.bytes > 600 * live.samples) >= 1400


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ("", {"MEMLEAK_NATIVE": "0", "MEMLEAK_PYTHON": "0"}, "MEMLEAK_NATIVE ignored"),
        ("python=False", {"MEMLEAK_NATIVE": "0"}, "MEMLEAK_NATIVE ignored"),
        ("native=False", {"MEMLEAK_PYTHON": "0"}, "MEMLEAK_PYTHON ignored"),
    ],
)
def test_environment_does_not_leave_nothing(arguments, environ, words):
    """What would leave nothing to record is left out, with one line."""
    code = f"""
    memleak.start({arguments})
    status = memleak.status()
    print(status.counts_native, status.counts_python)
    """
    done = python(code, **environ)
    assert done.returncode == 0 and done.stderr.startswith(f"memleak: {words}") and done.stderr.count("\n") == 1
    assert done.stdout == ("False True\n" if "native" in arguments else "True False\n")


def test_each_recording_keeps_to_its_side(place):
    """One after another, each has what it was asked for, whatever hooks are left of those before; so has a child."""
    code = """
    def allocate():
        raw = ctypes.pythonapi.PyMem_RawMalloc
        raw.restype, raw.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        return keep(100), [raw(5000 + n) for n in range(100)]

    held = []
    with memleak.tracing(1, 1, native=False):
        held.append(allocate())
        child = os.fork()
        if child == 0:
            held.append(allocate())
            print("child", memleak.is_running(), memleak.status().counts_native, flush=True)
            memleak.stop()
            os._exit(0)
        os.waitpid(child, 0)
    for native in (True, False):
        memleak.start(1, 1, native=native)
        held.append(allocate())
        memleak.start(native=not native)  # too late for this one
        memleak.stop()
        print(memleak.status().counts_native)
    """
    assert said(code) == "child True False\nTrue\nFalse\n"
    first, _, second, third = recordings(place)
    for found, native in ((first, False), (second, True), (third, False)):
        names = {row.mod_name for row in found.rows if row.alloc_samples}
        assert found.header.counts_native == native
        assert ("glibc_malloc" in names, "pymem_raw" in names) == (native, not native)
        asked = {row.mod_name for row in found.rows if row.live.samples == 100 and row.live.bytes > 499_000}
        assert asked == {"glibc_malloc" if native else "pymem_raw"}


def test_knobs_changed_from_outside_are_kept():
    """`memleak set` writes the same words."""
    code = """
    import subprocess
    memleak.start()
    command = [sys.executable, "-m", "memleak", "set", str(os.getpid()), "max=99"]
    subprocess.run(command, check=True, capture_output=True)
    memleak.configure(min_sample_interval=50)
    print(requested())
    """
    assert said(code) == f"(50, 99, 256, 4096, {4 << 20})\n"


def test_knobs_changed_from_inside_and_outside_at_once():
    """What `memleak set` calls adopted was adopted; where it was overtaken it says so; the last change is in force."""
    outside = """
    import sys
    from memleak import control
    told = {"adopted": 0, "overtaken": 0}
    for number in range(60):
        change = control.set_knobs(int(sys.argv[1]), min=1000, max=2000 + number, timeout=20)
        assert change.adopted or "another change" in change.note, change
        assert not change.adopted or change.effective[:2] == (1000, 2000 + number), change
        told["adopted" if change.adopted else "overtaken"] += 1
    assert told["adopted"] and told["overtaken"], told
    """
    code = f"""
    import subprocess, textwrap, time
    memleak.start()
    done = False
    def change():
        number = 0
        while not done:
            memleak.configure(min_sample_interval=1 + number % 50, max_sample_interval=100)
            number += 1
            for _ in range(number % 4 * 5):
                keep(70)
                time.sleep(0.002)
    thread = threading.Thread(target=change)
    thread.start()
    words = textwrap.dedent({outside!r})
    seen = subprocess.run([sys.executable, "-c", words, str(os.getpid())], capture_output=True, text=True)
    done = True
    thread.join()
    assert seen.returncode == 0, seen.stderr
    memleak.configure(min_sample_interval=3, max_sample_interval=30)
    held = keep(64)
    print(tuple(memleak.status().effective)[:2])
    """
    assert said(code) == "(3, 30)\n"


# ---- tracing() -------------------------------------------------------------------------------------------


def test_tracing_a_block_and_a_function(place):
    """On inside, off outside, whatever happens inside; a decorated function may call itself."""
    code = """
    with memleak.tracing(2, 20) as nothing:
        assert (memleak.is_running(), requested()[:2], nothing) == (True, (2, 20), None)
    assert not memleak.is_running()

    @memleak.tracing(max_sample_interval=30)
    def work(depth):
        "Words."
        assert memleak.is_running() and requested()[:2] == (16, 30)
        return work(depth - 1) + 1 if depth else 0

    assert (work(3), work.__name__, work.__doc__) == (3, "work", "Words.")
    assert not memleak.is_running()
    try:
        with memleak.tracing(): raise KeyError("x")
    except KeyError:
        print(memleak.is_running())
    """
    assert said(code) == "False\n"
    assert [found.header.state_name for found in recordings(place)] == ["stopped"] * 3


def test_tracing_inside_tracing_restores_the_knobs(place):
    """What was on stays on, with the knobs it had; one object may be entered twice."""
    code = """
    memleak.start(20, 200)
    narrow = memleak.tracing(1, 1)
    with narrow:
        assert requested()[:2] == (1, 1)
        with memleak.tracing(sample_bytes=0):
            assert requested() == (1, 1, 1, 1, 0)
            with narrow: pass
            assert requested() == (1, 1, 1, 1, 0)
        with memleak.tracing(python_min_sample_interval=2, python_max_sample_interval=20):
            assert requested()[:4] == (1, 1, 2, 20)
        memleak.configure(max_sample_interval=5)
    print(requested())
    with memleak.tracing(): memleak.configure(max_sample_interval=150)
    print(requested())
    with memleak.tracing(1): memleak.stop()
    print(memleak.is_running())
    """
    assert said(code) == f"(20, 200, 256, 4096, {4 << 20})\n(20, 150, 256, 4096, {4 << 20})\nFalse\n"
    assert len(recordings(place)) == 1


# ---- focus -----------------------------------------------------------------------------------------------


def test_focus_of_the_environment_of_start_and_for_a_while():
    """The argument wins over the variable; tracing() puts back what was there; stop() ends it."""
    code = """
    def focus():
        return tuple(memleak.status().focus)[:3]

    memleak.start()
    print(focus())
    memleak.start(focus="mod=mmap")
    print(focus())
    with memleak.tracing(focus="label=tenant=1"):
        print(focus())
    print(focus())
    memleak.configure(focus="none")
    print(focus())
    memleak.stop()
    memleak.start(focus="off")
    print(focus())
    print(memleak.status())
    """
    lines = said(code, MEMLEAK_FOCUS="module=libfoo.so").splitlines()
    expected = ["module=libfoo.so", "mod=mmap", "label=tenant=1", "mod=mmap", "", ""]
    assert lines[:6] == [str((text, text, True)) for text in expected]
    assert not any(line.startswith("focus") for line in lines)


def test_focus_in_words():
    """status() says what is recorded wholly, and how much that was."""
    code = """
    memleak.start(10000, 10000, focus="mod=pymalloc_obj")
    kept = [str(n) for n in range(1000)]
    (line,) = [line for line in str(memleak.status()).splitlines() if line.startswith("focus")]
    print(line)
    """
    (line,) = said(code).splitlines()
    assert line.startswith("focus      mod=pymalloc_obj: ") and line.endswith(" allocations, all of them recorded")
    assert int(line.split()[2].replace(",", "")) > 900
