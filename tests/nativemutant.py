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
    includes = [f"-I{nativebuild.NATIVE / 'src'}", f"-I{source.parent}"]
    command = ["gcc", *flags, *includes, *more, "-o", str(program), str(source), str(copy), *objects]
    nativebuild.run([*command, "-pthread", "-lm", "-ldl"])
    return program


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
