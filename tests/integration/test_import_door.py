"""The import door: no program may notice it, and it sees what the preload door sees."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import compatenv
import pytest
from doors import SOURCES, Door, Libraries, ledgers
from tracing import Sum, outcome, run

START = "import memleak; memleak.start(min_sample_interval=1, max_sample_interval=1)\n"


@pytest.fixture
def import_door(core_path, runtime_directory) -> Door:
    """The import door alone."""
    return Door("import", core_path, runtime_directory)


def code_of(door: Door, code: str) -> str:
    """Return a program that traces itself, if through this door it has to."""
    return START + code if door.name == "import" else code


def same(door: Door, code: str, *options: str, python: str = sys.executable, **more) -> str:
    """Run a Python program without and with tracing; nothing may differ. Return its output."""
    plain = run(python, *options, "-c", code, **more)
    traced = door.run(python, *options, "-c", code_of(door, code), **more)
    assert outcome(traced) == outcome(plain)
    assert door.paths(), "nothing was recorded"
    return traced.stdout


# ---- a single-threaded program stays single-threaded -----------------------------------------------------

FORKS = {
    # The words of the issue; parent and child both go on to the end.
    "fork": "import os; os.fork(); print('both')",
    "fork_status": "import os; p = os.fork(); p or os._exit(7); print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))",
    "fork_chain": (
        "import os\n"
        "for depth in range(20):\n"
        "    pid = os.fork()\n"
        "    if pid:\n"
        "        print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
        "        os._exit(depth)\n"
        "    blocks = [bytearray(2000) for _ in range(2000)]\n"
    ),
    # A thread that has come and gone: then the program has one thread again, and so must we.
    "fork_after_thread": (
        "import os, threading\n"
        "t = threading.Thread(target=lambda: bytearray(100000)); t.start(); t.join()\n"
        "p = os.fork(); p or os._exit(7); print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))"
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
        "import ctypes, os, threading\n"
        "t = threading.Thread(target=lambda: bytearray(100000)); t.start(); t.join()\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), os.strerror(ctypes.get_errno()))\n"
    ),
}


@pytest.mark.parametrize("how", FORKS)
def test_forking_is_as_quiet_as_without_us(door, how):
    """Warnings are errors: CPython 3.12 and later warn when a process with several threads forks."""
    same(door, FORKS[how], "-W", "error")


@pytest.mark.compat
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_forking_is_as_quiet_under(door, version):
    """The same under each CPython found."""
    python = compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    door.core = run(python, "-c", "from memleak import _native; print(_native.library_path())").stdout.strip()
    for code in FORKS.values():
        same(door, code, "-W", "error", python=python)
        door.forget()


def test_no_thread_of_ours_in_a_program_with_one(door):
    """However much it allocates, imports and opens."""
    code = "import os, json, decimal, sqlite3; x = [bytearray(i) for i in range(30000)]; print(len(os.listdir('/proc/self/task')))"
    assert same(door, code) == "1\n"


# ---- nothing else differs ----------------------------------------------------------------------------------

ENDS = {
    "exit": ("import sys; sys.exit(3)", 3),
    "message": ("import sys; sys.exit('no')", 1),
    "raise": ("raise ValueError('no')", 1),
    "_exit": ("import os; print('lost'); os._exit(4)", 4),
    "atexit": ("import atexit; [atexit.register(print, i, bytearray(9)) for i in range(50)]", 0),
    "abort": ("import os; os.abort()", -signal.SIGABRT),
    "segv": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "daemon": ("import threading, time; threading.Thread(target=lambda: [bytearray(i) for i in iter(int, 1)], daemon=True).start(); print('end')", 0),
    "threads": ("import threading; t = [threading.Thread(target=lambda: [bytearray(i) for i in range(9999)]) for _ in range(8)]; [x.start() for x in t]", 0),
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
    code = "import memleak, sys; x = [bytearray(5000) for _ in range(100)]; print('libmemleak' in open('/proc/self/maps').read())"
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
        + "holders.drop_a(); new = [c.realloc(p, 54321) for p in old]; holders.make_b(10)\n"
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("when", ["early", "warm", "late"])
def test_every_kind_of_slot_equals_the_ledger(door, program, form, when):
    """Loaded before the start, loaded and called before it, loaded after it."""
    library = program("doors/forms.c", "-shared", "-fPIC", "-fno-builtin", *FORMS[form], name=f"{form}.so")
    load = "import ctypes; library = ctypes.CDLL({!r})\n".format(library)
    start = "import memleak; memleak.stop(); " + START
    before = {"early": load, "warm": load + "library.warm()\n", "late": ""}[when]
    after = load if when == "late" else ""
    work = "library.keep(200); library.warm(); library.release(); memleak.stop(); library.ledger()\n"
    done = door.run(sys.executable, "-c", before + start + after + work)
    assert (done.returncode, done.stderr) == (0, "")
    found = door.last()
    assert found.samples_lost == {}
    expected = ledgers(f"library {form}.so\n{done.stdout}")
    assert len(expected) == 21
    assert Libraries([library]).sums(found, "keep_") == expected


STATUS = HOLDERS + """
import memleak
c = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
c.mallinfo2.restype = Info
memleak.stop()
memleak.start(min_sample_interval=1, max_sample_interval=15)
holders.make_a(20000); holders.make_b(5000); holders.drop_b(); holders.make_d(20000)
status = memleak.status()
info = c.mallinfo2()
print(status.malloc_bytes, info.uordblks + info.hblkhd, status.coverage.estimated_live_bytes)
"""


def test_status_agrees_with_the_allocator(door, holders):
    """malloc_bytes is mallinfo2's, and the estimate explains what this program is known to hold."""
    done = door.run(sys.executable, "-c", STATUS, holders)
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs, estimated = map(int, done.stdout.split())
    assert abs(ours - theirs) <= 0.02 * theirs  # status() itself allocates
    ledger = 20000 * (1111 + 444)
    # The standard error is 1.4 %, so this is seven of them. The program holds little else.
    assert 0.9 * ledger <= estimated <= 1.1 * theirs


def test_programs_of_this_directory_are_used():
    """No victim is left without a test."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in sorted(SOURCES.iterdir()) if path.is_file() and path.name not in tests] == []
