"""Compile a C target, `tests/fuzz/fuzz_NAME.c`, with the parts of the core that it names:

    // fuzz: with elfimage cfi dwarf

A part with a directory is another object's: symbolize/unit; symbolize/* is all of it, columns/* is Python's module of
that name. A target that brings an interpreter with it, this one, says so:

    // fuzz: python
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

import nativebuild

HOME = Path(__file__).resolve().parent
LIMITED_API = "-DPy_LIMITED_API=0x03090000"  # as meson compiles what Python loads
SANITIZERS = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]


def targets() -> list[str]:
    """Return the names of the targets in C."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HOME.glob("fuzz_*.c"))


def compiler() -> list[str]:
    """Return the compiler and its flags. The words of meson's list that are gcc's or of no use here are left out."""
    flags = [flag for flag in nativebuild.flags() if not flag.startswith(("-W", "-mgeneral", "-O"))]
    return ["clang", *flags, "-O1", *SANITIZERS, f"-I{nativebuild.NATIVE / 'src'}", f"-I{nativebuild.NATIVE / 'symbolize'}"]


@lru_cache(maxsize=1)
def obstacle() -> str | None:
    """Return why nothing can be built here, None if it can."""
    directory = nativebuild.cache() / "fuzz"
    directory.mkdir(exist_ok=True)
    source = directory / "probe.c"
    source.write_text("int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long);\n"
                      "int LLVMFuzzerTestOneInput(const unsigned char *at, unsigned long n) { return n && *at > 255; }\n")  # fmt: skip
    try:
        nativebuild.make(directory / "probe", [*compiler(), str(source)])
    except FileNotFoundError:
        return "clang is not installed"
    except AssertionError as error:
        if "libclang_rt" in str(error):
            return "libFuzzer is not installed"
        raise
    started = subprocess.run([str(directory / "probe"), "-runs=1"], capture_output=True, text=True)
    return None if started.returncode == 0 else "no sanitizer runtime for this machine's address space"


def obstacle_of(name: str) -> str | None:
    """Return why the target *name* cannot be built here, None if it can."""
    if not obstacle() and _brings_python(name):
        if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
            return "Python's headers are not installed"
        if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
            return "this CPython has no shared library"
    return obstacle()


def _brings_python(name: str) -> bool:
    return "\n// fuzz: python\n" in (HOME / f"fuzz_{name}.c").read_text()


def _python() -> list[str]:
    """Return what a target with an interpreter in it is compiled with."""
    library, directory = (sysconfig.get_config_var(name) for name in ("LDLIBRARY", "LIBDIR"))
    program = os.path.realpath(sys.executable)
    return [
        f"-I{sysconfig.get_path('include')}", f'-DPYTHON="{program}"', os.path.join(directory, library), f"-Wl,-rpath,{directory}",
    ]  # fmt: skip


def build(name: str) -> Path:
    """Compile the target *name* unless it is newer than all it is made of; return the program."""
    directory = nativebuild.cache() / "fuzz"
    directory.mkdir(exist_ok=True)
    source = HOME / f"fuzz_{name}.c"
    parts = re.findall(r"^// fuzz: with (.*)$", source.read_text(), flags=re.MULTILINE)
    objects = [_object(directory, part) for words in parts for word in words.split() for part in _all(word)]
    program = directory / f"fuzz_{name}"
    included = [source.parent / name for name in re.findall(r'^#include "(\.\./.*\.c)"', source.read_text(), flags=re.MULTILINE)]
    newest = max(path.stat().st_mtime_ns for path in [source, *included, *objects, *HOME.glob("*.h"), *_headers()])
    if not program.exists() or program.stat().st_mtime_ns < newest:
        python = _python() if _brings_python(name) else []
        nativebuild.make(program, [*compiler(), str(source), *map(str, objects), *python])
    return program


def _all(word: str) -> list[str]:
    """Return the parts that a word means."""
    if word == "columns/*":
        return sorted(f"columns/{path.stem}" for path in nativebuild.NATIVE.glob("columns/*.c"))
    if word == "symbolize/*":
        return [name.removesuffix(".c") for name in nativebuild.meson_list("symbolize_names")]
    return [word]


def _headers() -> list[Path]:
    return [*nativebuild.headers(), *nativebuild.NATIVE.glob("symbolize/*.h"), *nativebuild.NATIVE.glob("columns/*.h")]


def _object(directory: Path, part: str) -> Path:
    source = nativebuild.NATIVE / (f"{part}.c" if "/" in part else f"src/{part}.c")
    target = directory / f"{part.replace('/', '-')}.o"
    newest = max(path.stat().st_mtime_ns for path in [source, *_headers(), nativebuild.NATIVE / "meson.build"])
    if not target.exists() or target.stat().st_mtime_ns < newest:
        python = [f"-I{sysconfig.get_path('include')}", LIMITED_API] if part.startswith("columns/") else []
        nativebuild.make(target, [*compiler(), *python, "-c", str(source)])
    return target
