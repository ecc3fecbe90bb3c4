"""The recording grows while the program does, without a thread of ours."""

from __future__ import annotations

import shutil
import sys

LIBRARIES = 12


def test_loading_libraries_makes_room(tracer, program, tmp_path):
    """A single-threaded program's recording grows when a library comes: far more than 3 MiB, and nothing is dropped."""
    binary = program("growing.c", "-ldl")
    plug = program("doors/plug.c", "-shared", "-fPIC", name="plug.so")
    libraries = [shutil.copy(plug, tmp_path / f"plug{number}.so") for number in range(LIBRARIES)]
    # Not full mode, which has all its room at once.
    most = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_MAX_SAMPLE_INTERVAL": "2"}
    done = tracer.run(binary, *libraries, mode="normal", env=most)
    assert (done.returncode, done.stdout) == (0, f"{LIBRARIES * 20000}\n"), done.stderr
    found = tracer.only(binary)
    assert found.samples_lost == {}
    assert found.header.counters["room_grown"] > 0
    assert len(found.live) > LIBRARIES * 20000 / 2


OBJECTS = 300_000


def test_python_objects_make_room(tracer):
    """A Python program that only makes objects passes no other cold place than pymalloc's arenas: they make room, too."""
    code = f"kept = [float(n) for n in range({OBJECTS})]; print(len(kept))"
    most = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_MAX_SAMPLE_INTERVAL": "2"}
    most |= {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "2"}
    done = tracer.run(sys.executable, "-S", "-c", code, mode="normal", env=most)
    assert (done.returncode, done.stdout) == (0, f"{OBJECTS}\n"), done.stderr
    found = tracer.only(sys.executable)
    assert found.samples_lost == {}
    assert found.header.counters["room_grown"] > 0
    assert found.header.counters["samples"] > OBJECTS / 2


SANDBOX = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
opening = [2, 257, 437, 217, 137, 138]  # open, openat, openat2, getdents64, statfs, fstatfs
program = [(0x20, 0, 0, 0)]  # the number of the call
program += [(0x15, len(opening) - n, 0, number) for n, number in enumerate(opening)]
program += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x80000000)]  # allow, kill
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in program))
filter = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()
"""


def test_objects_make_room_in_a_sandbox(tracer):
    """What is done inside pymalloc opens no file: a program that has forbidden itself that is not killed for our room."""
    code = f"{SANDBOX}kept = [float(n) for n in range({OBJECTS})]; print(len(kept))"
    most = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_MAX_SAMPLE_INTERVAL": "2"}
    most |= {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "2"}
    done = tracer.same(sys.executable, "-S", "-c", code, mode="normal", env=most)
    assert (done.returncode, done.stdout) == (0, f"{OBJECTS}\n"), done.stderr
    found = tracer.only(sys.executable)
    assert found.samples_lost == {}
    assert found.header.counters["samples"] > OBJECTS / 2
