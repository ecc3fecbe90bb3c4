"""Programs whose objects are loaded in a way that decides whose malloc they call: nothing differs, through both doors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from observing import clean_environment, compare, see
from victims import HERE

from memleak import _native, locate

pytestmark = pytest.mark.timeout(300)
MODES = ("normal", "full")
WAYS = ("plain", "deepbind", "namespace", "again")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the program, its library, and inside/ the one that only the library's RUNPATH leads to."""
    directory = tmp_path_factory.mktemp("loading")
    (directory / "inside").mkdir()
    shared = ["-shared", "-fPIC"]
    for target, source, *flags in (
        ("loading", "loading.c", "-ldl"),
        ("loading_host.so", "loading.c", *shared),
        ("libloading.so", "loading_library.c", *shared, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/inside"),
        ("inside/libloading_inner.so", "loading_library.c", *shared, "-DINNER"),
        ("audit.so", "audit.c", *shared),
    ):
        words = ["gcc", "-D_GNU_SOURCE", "-g", "-O1", "-fno-builtin", "-w", "-o", directory / target, HERE / source]
        done = subprocess.run([*words, *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return directory


def test_the_library_has_slots_of_ifuncs(place):
    """Otherwise nothing is tried of them."""
    words = ["readelf", "-rW", place / "libloading.so"]
    assert "IRELATIV" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", ["preload", "import"])
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_load(place, runtime_directory, way, door, mode):
    """dlopen as usual, with RTLD_DEEPBIND, into a namespace of its own, and over and over."""
    words = [way, str(place / "libloading.so")]
    if door == "preload":
        compare([str(place / "loading"), *words], runtime_directory, mode, MEMLEAK="1", LD_PRELOAD=_native.library_path())
    else:
        compare([sys.executable, str(HERE / "host.py"), str(place / "loading_host.so"), *words], runtime_directory, mode, MEMLEAK="1")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", ["preload", "import"])
def test_a_loader_that_is_watched(place, runtime_directory, door, mode):
    """With an auditing library there is a second namespace from the start, and the loader calls into it at each binding."""
    command = [sys.executable, str(HERE / "few_calls.py")]
    audit = {"LD_AUDIT": str(place / "audit.so"), "MEMLEAK": "1"}
    plain = see(command, {**clean_environment(), "LD_AUDIT": audit["LD_AUDIT"]})
    assert plain.status == 0 and plain == see(command, clean_environment())
    door_of = {"LD_PRELOAD": _native.library_path()} if door == "preload" else {}
    compare(command, runtime_directory, mode, **audit, **door_of)


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-tools is not installed")
def test_program_of_another_c_library(tmp_path, runtime_directory):
    """A program of musl's runs by `memleak run` as without us; preloaded all the same, its loader refuses us in words."""
    program = tmp_path / "program"
    (tmp_path / "program.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { void *p = malloc(10); free(p); puts("done"); return 3; }\n'
    )
    subprocess.run(["musl-gcc", "-o", program, f"{program}.c"], check=True)
    launcher = [sys.executable, "-m", "memleak", "run", "--quiet"]
    traced = see([*launcher, program], clean_environment(MEMLEAK_DIR=str(runtime_directory)))
    assert (traced.status, traced.output) == (3, "done\n")
    assert "musl" in traced.errors and "runs without tracing" in traced.errors and traced.errors.count("\n") == 1
    preloaded = see([program], clean_environment(MEMLEAK="1", LD_PRELOAD=_native.library_path()))
    assert preloaded.status == 127 and preloaded.output == "" and "libmemleak.so" in preloaded.errors
    assert locate.list_recordings([runtime_directory]) == []
