"""Compile the core, or a C test against it, with one expression of one core file changed."""

from __future__ import annotations

from pathlib import Path

import nativebuild


def mutated(directory: Path, source: Path, module: str, old: str, new: str, *more: str) -> Path:
    """Return the program of *source* with *old* in the core's *module* replaced by *new*; *more* are flags."""
    copy = changed(directory, module, old, new)
    flags = [flag for flag in nativebuild.flags() if not flag.startswith(("-W", "-mgeneral"))]
    others = [path for path in nativebuild.core_sources() if path.stem not in nativebuild.LEFT_OUT | {module}]
    objects = [str(nativebuild.core_object(path)) for path in others]
    program = directory / source.stem
    command = ["gcc", *flags, f"-I{nativebuild.NATIVE / 'src'}", f"-I{source.parent}", *more]
    test = test_object(source, command, more)
    nativebuild.run([*command, "-o", str(program), str(test), str(copy), *objects, "-pthread", "-lm", "-ldl"])
    return program


def test_object(source: Path, command: list[str], flags: tuple[str, ...]) -> Path:
    """Compile the test itself, which is the same for all mutants with these flags, unless that has been done."""
    directory = nativebuild.cache() / "mutants"
    directory.mkdir(exist_ok=True)
    target = directory / f"{'-'.join([source.stem, *(flag.strip('-').replace('=', '-') for flag in flags)])}.o"
    used = [source, *source.parent.glob("*.h"), *nativebuild.headers(), nativebuild.NATIVE / "meson.build"]
    if not target.exists() or target.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in used):
        nativebuild.make(target, [*command, "-c", str(source)])
    return target


def mutated_core(directory: Path, module: str, old: str, new: str) -> Path:
    """Return a whole libmemleak.so with *old* in the core's *module* replaced by *new*."""
    copy = changed(directory, module, old, new)
    objects = [str(nativebuild.core_object(path)) for path in nativebuild.core_sources() if path.stem != module]
    library = directory / "libmemleak.so"
    flags = [flag for flag in nativebuild.flags() if not flag.startswith("-W")]
    command = ["gcc", "-shared", *flags, f"-I{nativebuild.NATIVE / 'src'}", "-o", str(library), str(copy), *objects]
    nativebuild.run([*command, *nativebuild.meson_list("core_link_args")])
    return library


def changed(directory: Path, module: str, old: str, new: str) -> Path:
    """Write a copy of the core's *module* with *old*, which it must have once, replaced by *new*."""
    text = (nativebuild.NATIVE / "src" / f"{module}.c").read_text()
    assert text.count(old) == 1, f"{module}.c no longer has one {old!r}: adapt the mutant"
    copy = directory / f"{module}.c"
    copy.write_text(text.replace(old, new))
    return copy
