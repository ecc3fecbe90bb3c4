"""Short words for debug information of one source file, /src/f.c, in the forms that are usual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dwarfwriter import Attribute, Die, Unit
from linewriter import LineProgram

FILE = "/src/f.c"


def lines(version: int, *sequences: Sequence[tuple[int, int]], **options: Any) -> LineProgram:
    """Return a program of sequences of (address, line); the line of the last of each is where it ends."""
    options.setdefault("files", [("f.c", 0)] * (2 if version >= 5 else 1))
    if version >= 5:
        options.setdefault("directories", ["/src"])
    program = LineProgram(version, **options)
    for rows in sequences:
        program.set_address(rows[0][0])
        at, line = rows[0][0], 1
        for address, wanted in rows[:-1]:
            program.standard("advance_pc", (address - at) // program.min_inst_length)
            program.standard("advance_line", wanted - line).standard("copy")
            at, line = address, wanted
        program.standard("advance_pc", (rows[-1][0] - at) // program.min_inst_length).end_sequence()
    return program


def offset_form(version: int, offset_size: int = 4) -> str:
    """Return the form of an offset in another section."""
    return "sec_offset" if version >= 4 else f"data{offset_size}"


def place(version: int, low: int, high: int) -> list[Attribute]:
    """Return low_pc and high_pc."""
    return [("low_pc", "addr", low), ("high_pc", "data8", high - low) if version >= 4 else ("high_pc", "addr", high)]


def unit(
    version: int,
    children: Sequence[Die],
    program: LineProgram | None = None,
    covers: tuple[int, int] | None = (0x1000, 0x1100),
    *,
    attributes: Sequence[Attribute] = (),
    **options: Any,
) -> Unit:
    """Return a unit that covers a range and has a line program."""
    root = Die("compile_unit", [("name", "string", "f.c"), ("comp_dir", "string", "/src")], list(children))
    if program is not None:
        root.attributes.append(("stmt_list", offset_form(version, options.get("offset_size", 4)), program))
    root.attributes += place(version, *covers) if covers else []
    root.attributes += attributes
    return Unit(version, root, **options)


def function(
    name: str | None, covers: Sequence[Attribute], *children: Die, attributes: Sequence[Attribute] = ()
) -> Die:
    """Return a function; *covers* as of `place`."""
    named = [("name", "string", name)] if name is not None else []
    return Die("subprogram", [*named, *covers, *attributes], list(children))


def abstract(name: str) -> Die:
    """Return what calls of a function refer to."""
    return Die("subprogram", [("name", "string", name), ("inline", "data1", 1)])


def call(origin: Die, covers: Sequence[Attribute], line: int, *children: Die, form: str = "ref4") -> Die:
    """Return an inlined call at a line of the file."""
    attributes = [("abstract_origin", form, origin), *covers, ("call_file", "data1", 1), ("call_line", "udata", line)]
    return Die("inlined_subroutine", attributes, list(children))
