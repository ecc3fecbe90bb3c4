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
