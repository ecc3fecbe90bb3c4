"""Compile C tests against the core's own objects, so that hidden functions can be called.

The flags are read from native/meson.build: there is one list. A test may ask for more in comments:

    // nativebuild: flags -DLIVESET_TEST -pthread      compiler and linker flags for this test
    // nativebuild: without slots                      parts of the core not linked in
    // nativebuild: with hook_malloc                   parts linked in that are left out otherwise
    // nativebuild: also --own-snapshot                run once more, with these arguments

Without a word the hooks stay out: linked into the test itself they would trace the test.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
LEFT_OUT = {"hook_malloc", "hook_pool", "hook_events", "startup", "api"}


def meson_list(name: str) -> list[str]:
    """Return the strings of the list *name* in native/meson.build, all its ``+=`` included."""
    text = (NATIVE / "meson.build").read_text()
    bodies = re.findall(rf"^\s*{name} \+?= \[([^\]]*)\]", text, flags=re.MULTILINE)
    return [word for body in bodies for word in re.findall(r"'([^']+)'", body)]


def flags() -> list[str]:
    """Return how the core is compiled, for development: warnings are errors."""
    standard = re.findall(r"'c_std=(\w+)'", (ROOT / "meson.build").read_text())[0]
    return [f"-std={standard}", "-O2", "-g", "-fPIC", "-Werror", f"-I{NATIVE / 'include'}", *meson_list("core_c_args")]


def cache() -> Path:
    """Return the directory for objects and programs, which outlives the run."""
    home = os.environ.get("MEMLEAK_TEST_HOME") or os.path.join(tempfile.gettempdir(), f"memleak-native-{os.getuid()}")
    directory = Path(home) / "native"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def directives(source: Path) -> dict[str, list[str]]:
    """Return the ``// nativebuild:`` words of a test."""
    found: dict[str, list[str]] = {"flags": [], "without": [], "with": []}
    for kind, words in re.findall(r"^// nativebuild: (\w+) (.*)$", source.read_text(), flags=re.MULTILINE):
        found.setdefault(kind, []).extend(words.split())
    return found


def further_runs(source: Path) -> list[list[str]]:
    """Return the arguments of each further run that a test asks for."""
    lines = re.findall(r"^// nativebuild: also (.*)$", source.read_text(), flags=re.MULTILINE)
    return [line.split() for line in lines]


def test_program(source: Path) -> Path:
    """Compile one C test; return the program."""
    asked = directives(source)
    left_out = (LEFT_OUT | set(asked["without"])) - set(asked["with"])
    objects = [core_object(path) for path in core_sources() if path.stem not in left_out]
    program = cache() / source.stem
    newest = max(path.stat().st_mtime_ns for path in [*objects, *headers(), source, *source.parent.glob("*.h")])
    if not program.exists() or program.stat().st_mtime_ns < newest:
        warnings = [flag for flag in flags() if flag not in ("-mgeneral-regs-only", "-Wframe-larger-than=1536")]
        warnings = [flag for flag in warnings if flag != "-Wmissing-prototypes"]
        command = ["gcc", *warnings, f"-I{NATIVE / 'src'}", f"-I{source.parent}", str(source)]
        make(program, [*command, *map(str, objects), "-pthread", "-lm", "-ldl", *asked["flags"]])
    return program


def core_sources() -> list[Path]:
    """Return the core's C files that exist."""
    return [NATIVE / name for name in meson_list("core_names") if (NATIVE / name).exists()]


def core_object(source: Path) -> Path:
    """Compile one C file of the core unless its object is newer than it and every header."""
    target = cache() / f"{source.stem}.o"
    newest = max(path.stat().st_mtime_ns for path in [source, *headers(), NATIVE / "meson.build"])
    if not target.exists() or target.stat().st_mtime_ns < newest:
        make(target, ["gcc", *flags(), "-c", str(source)])
    return target


def make(target: Path, command: list[str]) -> None:
    """Run the compiler for *target*, which another process may be making or using: it appears in one piece."""
    half_done = target.with_name(f"{target.name}.{os.getpid()}")
    run([*command, "-o", str(half_done)])
    os.replace(half_done, target)


def headers() -> list[Path]:
    """Return every header of the core."""
    return [*NATIVE.glob("include/*.h"), *NATIVE.glob("src/*.h")]


def run(command: list[str]) -> None:
    """Run the compiler; raise what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stderr}")
