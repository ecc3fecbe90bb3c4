"""Programs of Debian's print and leave the same with the core preloaded into them and into all that they start."""

from __future__ import annotations

import shutil

import pytest
from observing import clean_environment, see, without_our_line, without_us
from programs import LARGE, PROGRAMS, installed

from memleak import _native

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("mode", ["normal", "full"])
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in LARGE or name in installed()])
def test_same_result(runtime_directory, record_property, name, mode):
    """Status, output, errors and files."""
    program = PROGRAMS[name]
    if shutil.which(program.command) is None:
        pytest.skip(f"{program.command} is not installed")
    environment = clean_environment(
        MEMLEAK="1", MEMLEAK_MODE=mode, MEMLEAK_FOLLOW="1", MEMLEAK_DIR=str(runtime_directory), N="1", LC_ALL="C",
        LD_PRELOAD=_native.library_path(),
    )  # fmt: skip
    command = ["sh", "-c", program.work]
    plain, traced = without_us(*command, N="1", LC_ALL="C"), see(command, environment)
    assert plain.status == 0 and plain.output, plain
    assert without_our_line(traced.errors) == plain.errors
    assert (traced.status, traced.output, traced.files) == (plain.status, plain.output, plain.files)
    assert list(runtime_directory.glob("*.mlrec"))
    record_property("runs of real programs", 1)
