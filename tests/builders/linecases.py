"""Cases of line programs."""

from __future__ import annotations

from collections.abc import Sequence

from caselist import BOTH, Case, case
from dwarfwriter import DwarfFile
from linewriter import LineProgram
from plaindwarf import FILE, function, lines, place, unit


def _of_program(version: int, program: LineProgram, want: dict[int, tuple], agree: Sequence[str] = BOTH) -> Case:
    file = DwarfFile([unit(version, [function("f", place(version, 0x1000, 0x1100))], program)])
    return Case(file, {address: [("f", *row)] if row else [] for address, row in want.items()}, agree)


@case
def sequences_out_of_order() -> Case:
    program = lines(4, [(0x1040, 3), (0x1050, 0)], [(0x1000, 1), (0x1010, 0)], [(0x1020, 2), (0x1030, 0)])
    want = {0x1000: (1,), 0x1010: (), 0x1020: (2,), 0x1030: (), 0x104F: (3,), 0x1050: ()}
    return _of_program(4, program, {at: (FILE, *row, 0) if row else () for at, row in want.items()})


@case
def several_rows_of_one_address() -> Case:
    """The last one counts."""
    program = lines(3, [(0x1000, 1), (0x1000, 2), (0x1008, 3), (0x1008, 4), (0x1008, 5), (0x1010, 0)])
    return _of_program(3, program, {0x1000: (FILE, 2, 0), 0x1008: (FILE, 5, 0), 0x100F: (FILE, 5, 0)})


@case
def instructions_of_four_bytes() -> Case:
    program = LineProgram(4, files=[("f.c", 0)], min_inst_length=4)
    program.set_address(0x1000).standard("copy").special(2, 3).standard("const_add_pc").standard("advance_line", 5)
    program.standard("copy").standard("fixed_advance_pc", 2).standard("advance_line", -2).standard("copy")
    program.standard("advance_pc", 1).end_sequence()
    jump = 0x1008 + 4 * program.const_advance
    want = {0x1000: 1, 0x1007: 1, 0x1008: 4, jump - 1: 4, jump: 9, jump + 2: 7, jump + 5: 7}
    return _of_program(4, program, {**{at: (FILE, line, 0) for at, line in want.items()}, jump + 6: ()})


@case
def opcodes_that_nobody_knows() -> Case:
    program = LineProgram(4, files=[("f.c", 0)], opcode_base=16, operands=(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 2, 0, 1))
    program.set_address(0x1000).extended(0x80, b"whatever").standard("set_isa", 1 << 40)
    program.code += b"\x0d\xff\x01\x02\x0e\x0f\x85\x80\x00"
    program.standard("set_prologue_end").standard("set_epilogue_begin").standard("negate_stmt").special(0, 4)
    program.standard("advance_pc", 16).end_sequence()
    return _of_program(4, program, {0x1000: (FILE, 5, 0), 0x1010: ()})


@case
def a_header_that_knows_fewer_opcodes() -> Case:
    program = LineProgram(2, files=[("f.c", 0)], opcode_base=10)
    program.set_address(0x1000).special(1, 3).special(0, 0).standard("advance_pc", 15).end_sequence()
    return _of_program(2, program, {0x1000: (), 0x1001: (FILE, 4, 0)})


@case
def discriminators_and_columns() -> Case:
    program = LineProgram(4, files=[("f.c", 0)])
    program.set_address(0x1000).set_discriminator(7).standard("set_column", 3).standard("copy").special(4, 0)
    program.set_discriminator(1 << 20).special(4, 1).standard("advance_pc", 8).end_sequence()
    return _of_program(4, program, {0x1000: (FILE, 1, 7), 0x1004: (FILE, 1, 0), 0x1008: (FILE, 2, 1 << 20)})


@case
def files_of_dwarf_2_to_4() -> Case:
    program = LineProgram(
        3, directories=["rel", "/abs"], files=[("a.c", 0), ("b.c", 1), ("c.c", 2), ("/d.c", 1), ("e.c", 9)]
    )
    wanted = {1: "/src/a.c", 2: "/src/rel/b.c", 3: "/abs/c.c", 4: "/d.c", 5: "/src/e.c", 6: "/src/rel/defined.c"}
    program.define_file("defined.c", 1).set_address(0x1000)
    for number in (1, 2, 3, 4, 5, 6, 7):
        program.standard("set_file", number).special(1, 1)
    program.standard("advance_pc", 1).end_sequence()
    rows = {0x1000 + at: (wanted.get(at), 1 + at, 0) for at in range(1, 8)}
    return _of_program(3, program, rows, [])


@case
def files_of_dwarf_5() -> Case:
    """Numbers begin with 0, and each has a checksum."""
    program = LineProgram(
        5, directories=["/src", "rel", "/abs"], files=[("f.c", 0), ("b.c", 1), ("c.c", 2)], path_form="line_strp",
        more_formats=[("MD5", "data16", bytes(16)), ("size", "udata", b"\x85\x01"), ("timestamp", "block", b"\x02ab")],
    )  # fmt: skip
    program.set_address(0x1000)
    for number in (0, 1, 2, 3):
        program.standard("set_file", number).special(1, 1)
    program.standard("advance_pc", 1).end_sequence()
    paths = ["/src/f.c", "/src/rel/b.c", "/abs/c.c", None]
    return _of_program(5, program, {0x1001 + at: (path, 2 + at, 0) for at, path in enumerate(paths)}, [])


@case
def a_program_that_stops_in_the_middle() -> Case:
    """What it said until then counts: rows but the last, of which nobody knows where it ends."""
    program = lines(4, [(0x1000, 1), (0x1010, 0)])
    program.set_address(0x1010).special(0, 1).special(8, 1)
    program.code += b"\0\x09\x02\x00\x10"
    return _of_program(4, program, {0x1000: (FILE, 1, 0), 0x1010: (FILE, 2, 0), 0x1018: ()}, [])


@case
def addresses_that_go_down_inside_a_sequence() -> Case:
    """No compiler writes it; it does no harm."""
    program = lines(4, [(0x1000, 1), (0x1010, 0)])
    program.set_address(0x1020).special(0, 1).set_address(0x1010).special(0, 1).set_address(0x1030).end_sequence()
    return _of_program(4, program, {0x1000: (FILE, 1, 0)}, [])


@case
def a_sequence_that_ends_before_its_rows() -> Case:
    """Rows but the last count."""
    program = lines(4, [(0x1000, 1), (0x1010, 0)])
    program.set_address(0x1020).special(0, 1).special(8, 1).set_address(0x13).end_sequence()
    return _of_program(4, program, {0x1000: (FILE, 1, 0), 0x1020: (FILE, 2, 0), 0x1028: ()}, [])
