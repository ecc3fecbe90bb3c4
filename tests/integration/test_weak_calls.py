"""Programs that call what memleak.h offers, linked in any way and to no library of ours: with the core and without."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from tracing import PROGRAMS, run

import memleak
from memleak.recording import Recording

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = ("gcc", "g++ -x c++", "clang", "clang++ -x c++")
DYNAMIC = {
    "pie": "-fPIE -pie",
    "no_pie": "-fno-pie -no-pie",
    "no_pie_now": "-fno-pie -no-pie -Wl,-z,now,-z,relro",
    "pie_code_no_pie": "-fPIE -no-pie",
}  # fmt: skip
STATIC = {"static": "-fno-pie -static", "static_pie": "-fPIE -static-pie"}
NOBODY, THERE = "0 0 -1 0 1 0 0 0\n", "1 1 42 1 1 1 0 -1\n"


@pytest.fixture
def build(tmp_path):
    """Compile the program: ``build(compiler, flags)`` returns the executable's path."""

    def build(compiler: str, flags: str) -> str:
        if shutil.which(compiler.split()[0]) is None:
            pytest.skip(f"{compiler.split()[0]} is not installed")
        binary = str(tmp_path / "weak_calls")
        words = f"{compiler} -g -Wall -Wextra -Werror -I{ROOT / 'native/include'} {PROGRAMS / 'weak_calls.c'} {flags}"
        built = run(*words.split(), "-o", binary)
        assert built.returncode == 0, built.stderr
        assert "memleak" not in run("readelf", "-dW", binary).stdout
        return binary

    return build


def live(found: Recording) -> list[int]:
    """Return the bytes of each row of the pool that has a live sample."""
    return [row.live.bytes for row in found.rows if row.mod_name == "weak" and row.live.samples]


@pytest.mark.parametrize(
    ("link", "level"), [*((link, level) for link in DYNAMIC for level in ("-O0", "-O2")), ("no_pie", "-O2 -flto")]
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_preloaded_and_alone(build, tracer, compiler, link, level):
    """All of them are there when the core is preloaded, and do nothing when it is not."""
    binary = build(compiler, f"{level} -pedantic {DYNAMIC[link]}")
    alone = run(binary)
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, NOBODY, "")
    traced = tracer.run(binary)
    assert (traced.returncode, traced.stdout, traced.stderr) == (0, THERE, "")
    assert live(tracer.only(binary)) == [50]


@pytest.mark.parametrize("link", STATIC)
@pytest.mark.parametrize("compiler", ["gcc", "clang++ -x c++"])
def test_static(build, tracer, compiler, link):
    """Where there is no loader there is nobody to call."""
    binary = build(compiler, f"-O2 {STATIC[link]}")
    done = tracer.run(binary)
    assert (done.returncode, done.stdout, done.stderr) == (0, NOBODY, "")


@pytest.mark.parametrize("link", ["pie", "no_pie"])
def test_linked(program, tracer, link):
    """Linked to the library as docs/reference/pools.md says: they are there, preloaded or not."""
    package = Path(memleak.include()).parent
    flags = f"-DMEMLEAK_LINKED -I{package}/include {DYNAMIC[link]} -L{package} -lmemleak -Wl,-rpath,{package}".split()
    binary = program("weak_calls.c", *flags, name=f"linked_{link}")
    for done in (run(binary), tracer.run(binary)):
        assert (done.returncode, done.stdout, done.stderr) == (0, THERE, "")
    assert live(tracer.only(binary)) == [50]


@pytest.mark.parametrize("link", DYNAMIC)
def test_import(build, runtime_directory, link):
    """In a process that begins without, they are there once Python code calls memleak.start()."""
    library = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
    if ".so" not in library.name or not library.exists():
        pytest.skip("this CPython has no shared library")
    binary = build("gcc", f"-O2 -DWITH_PYTHON {DYNAMIC[link]} -ldl")
    code = """
import json, memleak
memleak.start(1, 1, python=False)
def told():
    print(json.dumps([[use.name, use.samples, use.est_bytes] for use in memleak.snapshot().pools()]), flush=True)
"""
    env = {**os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": sysconfig.get_path("platlib")}
    done = run(binary, library, code, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    before, after, told = done.stdout.splitlines(keepends=True)
    assert (before, after, json.loads(told)) == (NOBODY, THERE, [["weak", 1, 50]])
