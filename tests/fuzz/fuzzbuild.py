"""Compile a C target, `tests/fuzz/fuzz_NAME.c`, with the parts of the core that it names:

    // fuzz: with elfimage cfi dwarf

A part with a directory is another object's: symbolize/unit; symbolize/* is all of it.
"""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from pathlib import Path

import nativebuild

HOME = Path(__file__).resolve().parent
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


def build(name: str) -> Path:
    """Compile the target *name* unless it is newer than all it is made of; return the program."""
    directory = nativebuild.cache() / "fuzz"
    directory.mkdir(exist_ok=True)
    source = HOME / f"fuzz_{name}.c"
    parts = re.findall(r"^// fuzz: with (.*)$", source.read_text(), flags=re.MULTILINE)
    objects = [_object(directory, part) for words in parts for word in words.split() for part in _all(word)]
    program = directory / f"fuzz_{name}"
    newest = max(path.stat().st_mtime_ns for path in [source, *objects, *HOME.glob("*.h"), *_headers()])
    if not program.exists() or program.stat().st_mtime_ns < newest:
        nativebuild.make(program, [*compiler(), str(source), *map(str, objects)])
    return program


def _all(word: str) -> list[str]:
    """Return the parts that a word means."""
    if word == "symbolize/*":
        return [name.removesuffix(".c") for name in nativebuild.meson_list("symbolize_names")]
    return [word]


def _headers() -> list[Path]:
    return [*nativebuild.headers(), *nativebuild.NATIVE.glob("symbolize/*.h")]


def _object(directory: Path, part: str) -> Path:
    source = nativebuild.NATIVE / (f"{part}.c" if "/" in part else f"src/{part}.c")
    target = directory / f"{part.replace('/', '-')}.o"
    newest = max(path.stat().st_mtime_ns for path in [source, *_headers(), nativebuild.NATIVE / "meson.build"])
    if not target.exists() or target.stat().st_mtime_ns < newest:
        nativebuild.make(target, [*compiler(), "-c", str(source)])
    return target
