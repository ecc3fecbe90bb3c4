"""The programs that tools are compared on: one small program in every way, and what is on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import linebuilds

RUST = """
use std::collections::BTreeMap;
#[inline(never)]
fn count<T: Ord + Clone>(words: &[T]) -> BTreeMap<T, usize> {
    let mut found = BTreeMap::new();
    for word in words { *found.entry(word.clone()).or_insert(0) += 1; }
    found
}
fn main() {
    let words: Vec<String> =
        std::env::args().flat_map(|a| a.split('/').map(str::to_owned).collect::<Vec<_>>()).collect();
    let total: usize = count(&words).iter().filter(|(k, _)| k.len() > 1).map(|(_, v)| v * 2).sum();
    println!("{} {:?}", total, count(&[1, 2, 2, 3]));
}
"""


class Program(NamedTuple):
    """A program to ask about. `whole` has the same code with all debug information in one file."""

    name: str
    path: Path
    whole: Path
    beside: Path  # where its other files are
    base: str  # the build that it was made of
    gnu_finds: bool = True  # what is beside it


def small(home: Path) -> Iterator[tuple[str, Program | str]]:
    """Yield each build by its name, or why there is none."""
    built: dict[str, Path] = {}
    for name in linebuilds.BUILDS:
        yield name, _made(lambda name=name: _build(name, home / name, built))
    for name in linebuilds.DERIVED:
        yield name, _made(lambda name=name: _derive(name, home / name, built))
    for name, words in {"rust": [], "rust-v0": ["-C", "symbol-mangling-version=v0"]}.items():
        yield name, _made(lambda name=name, words=words: _rust(name, home / name, words))


def _made(make) -> Program | str:
    try:
        return make()
    except linebuilds.CannotBuild as reason:
        return str(reason)
    except (AssertionError, OSError, subprocess.CalledProcessError) as error:
        return str(error)[-200:]


def _build(name: str, home: Path, built: dict[str, Path]) -> Program:
    home.mkdir()
    built[name] = linebuilds.build(name, home)
    return Program(name, built[name], built.get(name.replace("-split", ""), built[name]), home, name)


def _derive(name: str, home: Path, built: dict[str, Path]) -> Program:
    what = linebuilds.DERIVED[name]
    if what.base not in built:
        raise linebuilds.CannotBuild(f"there is no {what.base}")
    home.mkdir()
    program = linebuilds.derive(name, built[what.base], home)
    whole = home / "mini" if name == "debugdata" else built[what.base]
    finds = name not in ("debugdata", "build-id")
    return Program(name, program, whole, home / what.debug_dir, what.base, finds)


def _rust(name: str, home: Path, words: list[str]) -> Program:
    compiler = shutil.which("rustc") or str(Path("~/.cargo/bin/rustc").expanduser())
    if not Path(compiler).exists():
        raise linebuilds.CannotBuild("rustc is not installed")
    home.mkdir()
    (home / "program.rs").write_text(RUST)
    linebuilds.run([compiler, "-g", "-O", "--edition", "2021", *words, "-o", "program", "program.rs"], home)
    return Program(name, home / "program", home / "program", home, "rust")


def libpython() -> Program | None:
    """Return this Python's shared library, if it has one with debug information."""
    from memleak.symbolize.elf import ElfError, open_elf

    directory, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    path = Path(directory or "", name or "")
    try:
        with open_elf(str(path)) as image:
            return Program("libpython", path, path, path.parent, "libpython") if image.has_lines else None
    except ElfError:
        return None
