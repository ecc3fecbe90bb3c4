"""The import door: no program may notice it, and it sees what the preload door sees."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from doors import SOURCES, Door, Libraries, ledgers
from tracing import Sum, outcome, run

import compatenv

START = "import memleak; memleak.start(min_sample_interval=1, max_sample_interval=1)\n"


@pytest.fixture
def import_door(core_path, runtime_directory) -> Door:
    """The import door alone."""
    return Door("import", core_path, runtime_directory)


def code_of(door: Door, code: str) -> str:
    """Return a program that traces itself, if through this door it has to."""
    return START + code if door.name == "import" else "\n" + code


def same(door: Door, code: str, *options: str, python: str = sys.executable) -> str:
    """Run a Python program without and with tracing; nothing may differ. Return its output."""
    plain = plainly(python, *options, "-c", "\n" + code)  # the same lines have the same numbers
    traced = door.run(python, *options, "-c", code_of(door, code))
    assert without_pids(outcome(traced)) == without_pids(outcome(plain))
    assert door.begun(), "nothing was recorded"
    return traced.stdout


@cache
def plainly(*command: str) -> subprocess.CompletedProcess:
    """Run a program without us, once."""
    return run(*command)


def without_pids(seen: tuple[int, str, str]) -> tuple[int, str, str]:
    """Return what a program did, with one number for every process that a warning names."""
    status, output, errors = seen
    return status, output, re.sub(r"pid=\d+", "pid=N", errors)


# ---- a single-threaded program stays single-threaded -----------------------------------------------------

# join() returns before the kernel has seen the thread end.
THREAD_GONE = (
    "import os, threading, time\n"
    "t = threading.Thread(target=lambda: bytearray(100000)); t.start(); t.join()\n"
    "while os.path.exists(f'/proc/self/task/{t.native_id}'): time.sleep(0.001)\n"
)
FORKS = {
    "fork": "import os; os.fork(); os.write(1, b'both\\n')",  # parent and child go on to the end
    "fork_status": "import os; p = os.fork(); p or os._exit(7); print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))",
    "fork_chain": (
        "import os\n"
        "for depth in range(8):\n"
        "    pid = os.fork()\n"
        "    if pid:\n"
        "        print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
        "        os._exit(depth)\n"
        "    blocks = [bytearray(2000) for _ in range(2000)]\n"
    ),
    # A thread that has come and gone: then the program has one thread again, and so must we.
    "fork_after_thread": (
        THREAD_GONE + "p = os.fork(); p or os._exit(7); print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))"
    ),
    "multiprocessing": (
        "import multiprocessing, os\n"
        "context = multiprocessing.get_context('fork')\n"
        "for _ in range(3):\n"
        "    one = context.Process(target=os._exit, args=(5,)); one.start(); one.join(); print(one.exitcode)\n"
        "with context.Pool(3) as pool: print(sum(pool.map(abs, range(-500, 500))))\n"
    ),
    "unshare": (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), os.strerror(ctypes.get_errno()))\n"
    ),
    "unshare_after_thread": (
        THREAD_GONE + "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), os.strerror(ctypes.get_errno()))\n"
    ),
}


def warnings_of(how: str) -> tuple[str, ...]:
    """Return how to ask for warnings: as an error, some versions swallow the one that forking may give."""
    return ("always", "error") if how == "fork" else ("always",)


@pytest.mark.parametrize("how", FORKS)
def test_forking_is_as_quiet_as_without_us(door, how):
    """CPython 3.12 and later warn when a process with several threads forks."""
    for warnings in warnings_of(how):
        same(door, FORKS[how], "-W", warnings)


@pytest.mark.compat
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_forking_is_as_quiet_under(door, version):
    """The same under each CPython found."""
    python = compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    door.core = run(python, "-c", "from memleak import _native; print(_native.library_path())").stdout.strip()
    for how, code in FORKS.items():
        for warnings in warnings_of(how):
            same(door, code, "-W", warnings, python=python)
            door.forget()


@pytest.mark.compat
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_forking_is_as_quiet_where_the_environment_starts_us_under(import_door, version):
    """MEMLEAK=1 and an installed package: the program has no line of ours, and is traced from before its first."""
    python = compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    for how, code in FORKS.items():
        for warnings in warnings_of(how):
            command = (python, "-W", warnings, "-c", "\n" + code)
            traced = import_door.run(*command, env={"MEMLEAK": "1"})
            assert without_pids(outcome(traced)) == without_pids(outcome(plainly(*command))), (how, warnings)
            assert import_door.begun(), "nothing was recorded"
            import_door.forget()


def test_no_thread_of_ours_in_a_program_with_one(door):
    """However much it allocates, imports and opens."""
    code = (
        "import os, json, decimal, sqlite3; x = [bytearray(i) for i in range(30000)]\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    assert same(door, code) == "1\n"


# ---- nothing else differs ----------------------------------------------------------------------------------

THREADS = """
import threading
def busy():
    for i in {over}: bytearray(i)
for i in range({number}): threading.Thread(target=busy, daemon={daemon}).start()
print("end")
"""
ENDS = {
    "exit": ("import sys; sys.exit(3)", 3),
    "message": ("import sys; sys.exit('no')", 1),
    "raise": ("raise ValueError('no')", 1),
    "_exit": ("import os; print('lost'); os._exit(4)", 4),
    "atexit": ("import atexit; [atexit.register(print, i, bytearray(9)) for i in range(50)]", 0),
    "abort": ("import os; os.abort()", -signal.SIGABRT),
    "segv": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "daemon": (THREADS.format(number=1, over="iter(int, 1)", daemon=True), 0),
    "threads": (THREADS.format(number=8, over="range(9999)", daemon=False), 0),
    "finalizers": ("class A:\n def __del__(self): print('gone', len(bytearray(5000)))\na = A(); a.self = a", 0),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDS)
def test_every_way_to_end(import_door, how):
    """Status, output and errors; daemon threads and finalizers allocate to the last."""
    code, status = ENDS[how]
    # The program is in a line of its own, so that tracebacks name the same one.
    wrapped = f"\nexec({code!r})"
    plain = run(sys.executable, "-c", wrapped)
    traced = import_door.run(sys.executable, "-c", START.strip() + wrapped)
    assert outcome(traced) == outcome(plain)
    assert traced.returncode == status


SURROUNDINGS = """
import gc, os, signal, sys
def mappings():
    # Files only: anonymous memory comes and goes with every allocation.
    lines = [line.split() for line in open("/proc/self/maps")]
    return [(w[0], w[1], w[5]) for w in lines if len(w) > 5 and w[5].startswith("/")]
def surroundings():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "threads": status["Threads"],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "modes": {name: flags for name, flags in [("umask", status.get("Umask"))]},
        "flags": sys.getdlopenflags(),
    }
import memleak, memleak.session, memleak._native
memleak._native.is_recording()
gc.collect()
before = surroundings(), mappings()
memleak.start()
after = surroundings(), mappings()
assert after[0] == before[0], (before[0], after[0])
# Every page of every object has the protection it had: RELRO is read-only again, nothing became executable.
missing = [line for line in before[1] if line not in after[1]]
new = [line for line in after[1] if line not in before[1]]
assert not missing, (missing, new)
assert all("mlrec" in path or "libmemleak" in path for _, _, path in new), new
memleak.stop()
memleak.start()
assert surroundings() == before[0]
assert [line for line in before[1] if line not in mappings()] == []
print("same")
"""


def test_surroundings_stay_the_same(import_door):
    """Descriptors, signals, threads, environment, and the protection of every mapped file's pages."""
    done = import_door.run(sys.executable, "-c", SURROUNDINGS)
    assert (done.stdout, done.stderr) == ("same\n", "")


def test_import_alone_hooks_nothing(import_door):
    """No recording, no core in the process, and no allocation passes through anything of ours."""
    code = (
        "import memleak, sys; x = [bytearray(5000) for _ in range(100)]\n"
        "print('libmemleak' in open('/proc/self/maps').read())"
    )
    done = import_door.run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert import_door.paths() == []


# ---- what it sees --------------------------------------------------------------------------------------------

HOLDERS = "import ctypes, sys; holders = ctypes.CDLL(sys.argv[1])\n"


@pytest.fixture
def holders(program) -> str:
    """A library with functions that keep blocks."""
    return program("doors/holders.c", "-shared", "-fPIC", "-fno-builtin", name="holders.so")


def test_switched_on_by_the_environment(import_door, holders):
    """MEMLEAK=1 and an installed package are enough; MEMLEAK_DISABLE=1 wins."""
    code = HOLDERS + "holders.make_a(1000); holders.make_b(1000); holders.drop_b()"
    command = (sys.executable, "-c", code, holders)
    done = import_door.run(*command, env={"MEMLEAK": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = import_door.last()
    assert found.samples_lost == {}
    assert Libraries([holders]).sums(found, "make_") == {"holders.so:make_a": Sum(1000, 1111000)}
    import_door.forget()
    for variables in ({"MEMLEAK": "1", "MEMLEAK_DISABLE": "1"}, {"MEMLEAK": "0"}, {}):
        done = import_door.run(*command, env=variables)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert import_door.paths() == []


def test_started_and_stopped(door, holders):
    """Each start opens a recording of its own; what is made in between is in none, what goes in between is not kept."""
    code = HOLDERS + (
        "import memleak\n"
        "memleak.stop()\n"
        "full = dict(min_sample_interval=1, max_sample_interval=1)\n"
        "memleak.start(**full); holders.make_a(100); memleak.start(); memleak.stop()\n"
        "holders.make_b(100); holders.drop_a()\n"
        "memleak.start(**full); holders.make_c(100); holders.drop_b(); memleak.stop(); memleak.stop()\n"
        "print(memleak.is_running())\n"
    )
    done = door.run(sys.executable, "-c", code, holders)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    *_, first, second = door.recordings()
    libraries = Libraries([holders])
    assert libraries.sums(first, "make_") == {"holders.so:make_a": Sum(100, 111100)}
    assert libraries.sums(second, "make_") == {"holders.so:make_c": Sum(100, 333300)}
    for found in (first, second):
        assert found.header.state_name == "stopped"
        assert found.samples_lost == {}


def test_blocks_from_before_may_go_and_grow(import_door, holders):
    """Freed or moved after the start, although they were made before: nothing is lost, nothing invented."""
    code = HOLDERS + (
        "import memleak\n"
        "c = ctypes.CDLL(None); c.malloc.restype = c.realloc.restype = ctypes.c_void_p\n"
        "c.realloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)\n"
        "old = [c.malloc(100) for _ in range(500)]; holders.make_a(500)\n"
        + START
        # Looked up again: an address that a program took before the start is its own business.
        + "d = ctypes.CDLL(None); d.realloc.restype = ctypes.c_void_p; d.realloc.argtypes = c.realloc.argtypes\n"
        + "holders.drop_a(); new = [d.realloc(p, 54321) for p in old]; holders.make_b(10)\n"
    )
    done = import_door.run(sys.executable, "-c", code, holders)
    assert (done.returncode, done.stderr) == (0, "")
    found = import_door.last()
    assert Libraries([holders]).sums(found, "make_") == {"holders.so:make_b": Sum(10, 22220)}
    assert [size for _, size, *_ in found.live].count(54321) == 500


def test_child_of_a_fork_has_a_recording_of_its_own(door, holders):
    """The parent's is exact, the child's holds what the child made."""
    code = HOLDERS + code_of(
        door,
        "import os\n"
        "holders.make_a(700)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    holders.make_b(3000); holders.drop_a(); os._exit(0)\n"
        "holders.make_c(600); os.waitpid(pid, 0)\n",
    )
    done = door.run(sys.executable, "-c", code, holders)
    assert (done.returncode, done.stderr) == (0, "")
    parent, child = door.recordings()
    libraries = Libraries([holders])
    assert libraries.sums(parent, "make_") == {
        "holders.so:make_a": Sum(700, 777700),
        "holders.so:make_c": Sum(600, 1999800),
    }
    assert child.header.parent_recording_id == parent.header.recording_id
    made = libraries.sums(child, "make_")
    assert set(made) == {"holders.so:make_b"}
    assert 1900 <= made["holders.so:make_b"].count <= 3000  # its recording opens after 1,000 allocations


FORMS = {
    "lazy": ("-Wl,-z,lazy,-z,relro",),
    "now": ("-Wl,-z,now,-z,relro",),
    "norelro": ("-Wl,-z,lazy,-z,norelro",),
    "noplt": ("-fno-plt", "-Wl,-z,now,-z,relro"),
    "noplt_lazy": ("-fno-plt", "-Wl,-z,lazy,-z,relro"),
}


@pytest.mark.parametrize("when", ["early", "warm", "late"])
def test_every_kind_of_slot_equals_the_ledger(door, program, when):
    """Loaded before the start, loaded and called before it, loaded after it."""
    flags = ("-shared", "-fPIC", "-fno-builtin")
    paths = [program("doors/forms.c", *flags, *more, name=f"{form}.so") for form, more in FORMS.items()]
    load = "import ctypes, os, sys; libraries = [ctypes.CDLL(path) for path in sys.argv[1:]]\n"
    before = {"early": load, "warm": load + "for each in libraries: each.warm()\n", "late": ""}[when]
    after = load if when == "late" else ""
    work = (
        "for each in libraries: each.keep(200), each.warm(), each.release()\n"
        "memleak.stop()\n"
        "for each in libraries: print('library', os.path.basename(each._name), flush=True), each.ledger()\n"
    )
    done = door.run(sys.executable, "-c", before + "import memleak; memleak.stop()\n" + START + after + work, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    found = door.last()
    assert found.samples_lost == {}
    expected = ledgers(done.stdout)
    assert len(expected) == 21 * len(FORMS)
    assert Libraries(paths).sums(found, "keep_") == expected


STATUS = HOLDERS + """
import memleak
c = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]
    def in_use(self):
        return self.uordblks + self.hblkhd
c.mallinfo2.restype = Info
memleak.stop()
memleak.start(min_sample_interval=16, max_sample_interval=4096)
memleak.status()  # so that it has loaded what it needs: one table of names is 400 KB, an error of its own if sampled
memleak.stop()
memleak.start(min_sample_interval=1, max_sample_interval=15)
holders.make_a(20000); holders.make_b(5000); holders.drop_b(); holders.make_d(20000)
before, status, after = c.mallinfo2(), memleak.status(), c.mallinfo2()
live = status.live_malloc
print(before.in_use(), status.malloc_bytes, after.in_use(), live.value, live.se)
"""


def test_status_agrees_with_the_allocator(door, holders):
    """malloc_bytes is mallinfo2's, and the estimate explains what this program is known to hold."""
    done = door.run(sys.executable, "-c", STATUS, holders)
    assert (done.returncode, done.stderr) == (0, "")
    before, ours, after, estimated, error = map(float, done.stdout.split())
    assert min(before, after) - (1 << 20) <= ours <= max(before, after) + (1 << 20)  # status() itself allocates
    ledger = 20000 * (1111 + 444)
    # The program holds little else.
    assert ledger - 7 * error <= estimated <= ours + 7 * error
    assert 0.005 * ledger < error < 0.03 * ledger


def test_programs_of_this_directory_are_used():
    """No victim is left without a test."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in sorted(SOURCES.iterdir()) if path.is_file() and path.name not in tests] == []
