"""The place for recordings is full, tiny, read-only, without inodes, or fills up meanwhile: the program does not notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from observing import clean_environment, see, without_our_line
from victims import HERE, PROGRAMS

from memleak import _native

pytestmark = pytest.mark.timeout(300)

# How the file system is made, and what is done there before the program starts or while it runs.
PLACES = {
    "64 KiB": ("size=64k", ""),
    "700 KiB": ("size=700k", ""),
    "2 MiB": ("size=2m", ""),
    "12 MiB": ("size=12m", ""),
    "full": ("size=4m", "cat /dev/zero > $PLACE/filler 2>/dev/null"),
    "no inodes": ("size=64m,nr_inodes=1", ""),
    "read-only": ("size=64m,ro", ""),
    "fills up": ("size=24m", "{ sleep 0.05; cat /dev/zero > $PLACE/filler; } >/dev/null 2>&1 &"),
    "becomes read-only": ("size=64m", "{ sleep 0.05; mount -o remount,ro $PLACE; } >/dev/null 2>&1 &"),
    "goes away": ("size=64m", "{ sleep 0.05; rm -rf $PLACE/*; umount -l $PLACE; } >/dev/null 2>&1 &"),
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> dict[str, list[str]]:
    """Programs that run long enough for a file system to change under them."""
    place = tmp_path_factory.mktemp("full")
    program = str(place / "threads")
    flags = ["-D_GNU_SOURCE", "-O1", "-fno-builtin", "-pthread", "-w"]
    subprocess.run(["gcc", *flags, "-o", program, HERE / "threads.c"], check=True)
    forking = str(place / "forked_loader")
    subprocess.run(["gcc", *flags, "-o", forking, PROGRAMS / "forked_loader.c", "-ldl"], check=True)
    plug = str(place / "plug.so")
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", plug, PROGRAMS / "doors/plug.c"], check=True)
    return {
        "threads": [program, "200"],
        "forking": [forking, "threads", plug],
        "python": [sys.executable, str(HERE / "few_calls.py")],
    }


@pytest.mark.parametrize("mode", ["normal", "full"])
@pytest.mark.parametrize("name", ["threads", "forking", "python"])
@pytest.mark.parametrize("place", PLACES)
def test_place_is_full(commands, record_property, tmp_path: Path, place, name, mode):
    """Same status, output and errors; we say at most one line, and no signal comes of a page that cannot be had."""
    options, meanwhile = PLACES[place]
    directory = tmp_path / "place"
    directory.mkdir(mode=0o700)
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount")
    variables = {"PLACE": str(directory), "MEMLEAK_DIR": str(directory), "MEMLEAK_MODE": mode, "MEMLEAK_ROOM": "32M"}
    script = f'mount -t tmpfs -o mode=0700,{options} none "$PLACE" || exit 99\n{meanwhile}\n'
    script += 'MEMLEAK=1 LD_PRELOAD="$CORE" exec "$@"'
    mounted = ["unshare", "-m", "sh", "-c", script, "sh"]
    plain = see([*mounted, *commands[name]], clean_environment(CORE="", **{**variables, "MEMLEAK_DISABLE": "1"}))
    assert plain.status == 0, plain
    traced = see([*mounted, *commands[name]], clean_environment(CORE=_native.library_path(), **variables))
    assert without_our_line(traced.errors) == plain.errors
    assert (traced.status, traced.output, traced.files) == (plain.status, plain.output, plain.files)
    record_property("full or failing places", 1)
