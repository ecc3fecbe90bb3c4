"""`memleak._native`: meets the core it was built with, and refuses any other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memleak import _native


def build_id_of(path: str) -> str:
    """Return what readelf says."""
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)


def python(code: str, **variables: str) -> subprocess.CompletedProcess:
    """Run *code* in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **variables})


def test_knows_the_core_and_is_off(core_path):
    """Importing it records nothing; the build id is the file's."""
    assert _native.build_id() == build_id_of(core_path)
    assert _native.is_recording() is False
    assert _native.recording_path() is None
    _native.poll()


def test_preloaded_process_meets_the_same_core(core_path, runtime_directory):
    """One mapping of the library, and the recording that the preload opened."""
    code = (
        "import memleak; from memleak import _native as n\n"
        "print(memleak.is_running(), n.recording_path())\n"
        "print(len({l.split()[-1] for l in open('/proc/self/maps') if 'libmemleak.so' in l}))\n"
        "print(memleak.snapshot().recordings[0].header.pid == __import__('os').getpid())"
    )
    done = python(code, LD_PRELOAD=core_path, MEMLEAK="1")
    first, second, third = done.stdout.splitlines()
    assert first.startswith(f"True {runtime_directory}/")
    assert (second, third) == ("1", "True")


WITHOUT_PYTHON = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
	void *core = dlopen(argv[1], RTLD_NOW);
	int (*start)() = dlsym(core, "memleak_start");
	const char *(*why)(void) = dlsym(core, "memleak_why");
	for (int n = 0; n < 3; n++) {
		int result = start(16, 256, 256, 4096, 0ULL, 64, n > 0, n > 1);
		printf("%d %s\\n", result, why());
	}
	return argc != 2;
}
"""


def test_start_with_nothing_to_record(core_path, compiled, runtime_directory):
    """Neither side, or Python's alone where there is no interpreter to be looked at: it says so and does not start."""
    program = compiled(WITHOUT_PYTHON, "-ldl", "-w", name="without_python")
    done = subprocess.run([program, core_path], capture_output=True, text=True, check=True)
    neither, no_python, both = done.stdout.splitlines()
    assert neither.startswith("-1 python and native must not both be 0")
    assert no_python.startswith("-1 native allocations are not to be sampled")
    assert both == "0 "


def test_own_snapshot_without_tracing_says_what_to_do():
    """A TargetError with the remedy."""
    import memleak

    with pytest.raises(memleak.TargetError, match="memleak run"):
        memleak.snapshot()


def test_core_of_another_build_is_refused(core_path, tmp_path):
    """Preloading another installation's core: the loader keeps that one, we must not use it."""
    image = Path(core_path).read_bytes()
    ours = bytes.fromhex(build_id_of(core_path))
    assert image.count(ours) == 1
    other = tmp_path / "libmemleak.so"
    other.write_bytes(image.replace(ours, bytes(20)))
    done = python("from memleak import _native; _native.is_recording()", LD_PRELOAD=str(other))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("memleak.errors.CoreError: ")
    assert ours.hex() in last
    assert "00000000" in last


def test_missing_core_is_said_in_words(tmp_path):
    """A package of Python files only still reads recordings; what needs the core says what to do."""
    package = Path(_native.__file__).parent
    copy = tmp_path / "memleak"
    copy.mkdir()
    for name in ("__init__.py", "_native.py", "errors.py", "names.py"):
        (copy / name).write_bytes((package / name).read_bytes())
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; from memleak import _native; _native.library_path()"
    done = python(code)
    assert "CoreError" in done.stderr.splitlines()[-1]
    assert "install the memleak package" in done.stderr.splitlines()[-1]
