"""One small program built in every way that debug information comes in: by compilers, linkers, dwz and objcopy."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parents[1] / "data/lines"
_UNKNOWN_WORDS = ("unrecognized", "unsupported", "unknown argument", "invalid --compress-debug-sections")


class CannotBuild(Exception):
    """A tool is not there, or does not know what is asked; the text is the reason of a skip."""


BUILDS = {
    "gcc-2": ("g++", "-gdwarf-2 -O2"),
    "gcc-3": ("g++", "-gdwarf-3 -O2"),
    "gcc-4": ("g++", "-gdwarf-4 -O2"),
    "gcc-5": ("g++", "-gdwarf-5 -O2"),
    "gcc-5-unoptimised": ("g++", "-gdwarf-5 -O0"),
    "gcc-5-small": ("g++", "-gdwarf-5 -Os -no-pie"),
    "gcc-64-bit-offsets": ("g++", "-gdwarf-5 -gdwarf64 -O2"),
    "gcc-types": ("g++", "-gdwarf-4 -fdebug-types-section -O2"),
    "gcc-zlib": ("g++", "-gdwarf-5 -O2 -gz=zlib"),
    "gcc-old-zlib": ("g++", "-gdwarf-4 -O2 -gz=zlib-gnu"),
    "gcc-lto": ("g++", "-gdwarf-5 -O2 -flto -fno-fat-lto-objects"),
    "gcc-split-4": ("g++", "-gdwarf-4 -gsplit-dwarf -O2"),
    "gcc-split-5": ("g++", "-gdwarf-5 -gsplit-dwarf -O2"),
    "clang-4": ("clang++", "-gdwarf-4 -O2"),
    "clang-5": ("clang++", "-gdwarf-5 -O2"),
    "clang-5-static-position": ("clang++", "-gdwarf-5 -O1 -no-pie"),
    "clang-lines-only": ("clang++", "-gline-tables-only -O2"),
    "clang-split-4": ("clang++", "-gdwarf-4 -gsplit-dwarf -O2"),
    "clang-split-5": ("clang++", "-gdwarf-5 -gsplit-dwarf -O2"),
}


def build(name: str, home: Path) -> Path:
    """Build the program in one way inside of an empty directory; return it.

    Raises:
        CannotBuild: the compiler is not installed, or too old.
    """
    compiler, words = BUILDS[name]
    plain = {"g++": "gcc", "clang++": "clang"}[compiler]
    link = [word for word in words.split() if word.startswith(("-no-pie", "-flto", "-gz", "-O"))]
    compile_ = [word for word in words.split() if word != "-no-pie"]
    if "-no-pie" in words:
        compile_.append("-fno-pie")
    run([plain, *compile_, "-c", str(SOURCES / "plain.c"), "-o", "plain.o"], home)
    run([compiler, "-std=c++17", *compile_, "-c", str(SOURCES / "program.cc"), "-o", "program.o"], home)
    run([compiler, *link, "-Wl,--build-id=sha1", "program.o", "plain.o", "-o", "program"], home)
    return home / "program"


def run(command: Sequence[str], home: Path) -> None:
    """Run a tool in a directory.

    Raises:
        CannotBuild: it is not installed, or does not know a word.
        AssertionError: it failed otherwise.
    """
    if not shutil.which(command[0]):
        raise CannotBuild(f"{command[0]} is not installed")
    ran = subprocess.run(command, cwd=home, capture_output=True, text=True)
    if ran.returncode and any(word in ran.stderr for word in _UNKNOWN_WORDS):
        raise CannotBuild(f"{command[0]} is not installed in a version that knows {' '.join(command[1:4])}")
    assert ran.returncode == 0, ran.stderr


# ---- what is made of a program that is built -------------------------------------------------------


class Derived(NamedTuple):
    """How a further program is made, of which build; `debug_dir`: where its debug file is, below its home."""

    base: str
    make: Callable[[Path], None]
    debug_dir: str = ""


def derive(name: str, program: Path, home: Path) -> Path:
    """Make a further program of a copy of *program*, in an empty directory; return it.

    Raises:
        CannotBuild: a tool is not installed, or too old.
    """
    copy = home / "program"
    shutil.copy(program, copy)
    DERIVED[name].make(copy)
    return copy


def _dwz(program: Path) -> None:
    run(["dwz", "program"], program.parent)


def _dwz_alternate(program: Path) -> None:
    """Two programs that share what they have in common."""
    shutil.copy(program, program.with_name("other"))
    run(["dwz", "-m", "shared.debug", "program", "other"], program.parent)
    assert program.with_name("shared.debug").exists()


def _compressed(how: str) -> Callable[[Path], None]:
    return lambda program: run(["objcopy", f"--compress-debug-sections={how}", "program"], program.parent)


def _debuglink(program: Path) -> None:
    run(["objcopy", "--only-keep-debug", "program", "program.debug"], program.parent)
    run(["objcopy", "--strip-all", "--add-gnu-debuglink=program.debug", "program"], program.parent)


def _build_id(program: Path) -> None:
    """The debug file is in a directory of those, by its build-id."""
    from memleak.symbolize.elf import open_elf

    with open_elf(str(program)) as image:
        build_id = image.build_id
    place = program.parent / "debug/.build-id" / build_id[:2]
    place.mkdir(parents=True)
    run(["objcopy", "--only-keep-debug", "program", str(place / f"{build_id[2:]}.debug")], program.parent)
    run(["objcopy", "--strip-all", "program"], program.parent)


def _debugdata(program: Path) -> None:
    """Only a symbol table is left, packed, as Fedora has it; the file "mini" has it as it was."""
    mini = program.with_name("mini")
    run(["objcopy", "--strip-debug", "--keep-file-symbols", "program", "mini"], program.parent)
    program.with_name("mini.xz").write_bytes(lzma.compress(mini.read_bytes(), check=lzma.CHECK_CRC32))
    run(["objcopy", "--strip-all", "--add-section", ".gnu_debugdata=mini.xz", "program"], program.parent)


DERIVED = {
    "dwz": Derived("gcc-4", _dwz),
    "dwz-5": Derived("gcc-5", _dwz),
    "dwz-alternate": Derived("gcc-4", _dwz_alternate),
    "dwz-alternate-5": Derived("gcc-5", _dwz_alternate),
    "zlib": Derived("clang-5", _compressed("zlib")),
    "zstd": Derived("gcc-5", _compressed("zstd")),
    "debuglink": Derived("gcc-5", _debuglink),
    "build-id": Derived("gcc-5", _build_id, "debug"),
    "debugdata": Derived("gcc-5", _debugdata),
}
