"""The core compiled by clang: no warning, and the same numbers as the one by gcc."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nativebuild
import pytest
from test_oracle import assert_equal_to_ledger
from tracing import Tracer

pytestmark = pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")


@pytest.fixture(scope="module")
def clang_object(tmp_path_factory) -> Callable[[Path], Path]:
    """``clang_object(source)``: compile one file of the core as meson does, warnings are errors; return the object."""
    directory = tmp_path_factory.mktemp("clang")

    def build(source: Path) -> Path:
        target = directory / f"{source.stem}.o"
        if not target.exists():
            nativebuild.run(["clang", *nativebuild.flags(), "-c", str(source), "-o", str(target)])
        return target

    return build


@pytest.mark.parametrize("source", nativebuild.core_sources(), ids=lambda path: path.name)
def test_compiles_without_a_warning(clang_object, source):
    """-Wall, -Wextra and what else native/meson.build asks for."""
    assert clang_object(source).exists()


def test_counts_as_the_ledger_does(clang_object, runtime_directory, tmp_path, program):
    """Registers taken in tail-called functions, thread-local countdowns and the tables do not depend on the compiler."""
    core = tmp_path / "libmemleak.so"
    objects = [str(clang_object(source)) for source in nativebuild.core_sources()]
    flags = [*nativebuild.meson_list("core_link_args"), "-pthread", "-ldl"]
    nativebuild.run(["clang", "-shared", "-o", str(core), *objects, *flags])
    assert b"clang version" in core.read_bytes()
    oracle = program("oracle.c", "-Wno-alloc-size-larger-than")
    assert_equal_to_ledger(Tracer(str(core), runtime_directory), oracle, 50_000, seed=1)
