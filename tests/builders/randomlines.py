"""Line tables made by chance: rows that are known, and a program that says them in random opcodes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from linewriter import LineProgram


@dataclass
class Run:
    """Rows (address, file, line, column, discriminator) in ascending order, and where they end."""

    rows: list[tuple[int, int, int, int, int]]
    end: int


class LinePlan:
    """The lines of a unit, and the program that says them."""

    def __init__(
        self, program: LineProgram, comp_dir: Optional[str], files: list[Optional[str]], sequences: list[Run]
    ) -> None:
        self.program, self.comp_dir, self.files, self._sequences = program, comp_dir, files, sequences

    def path(self, number: int) -> Optional[str]:
        """Return the path of a file by its number."""
        return self.files[number] if number < len(self.files) else None

    def row(self, address: int) -> tuple[Optional[str], Optional[int], int]:
        """Return file, line and discriminator of an address."""
        for sequence in self._sequences:
            if sequence.rows[0][0] <= address < sequence.end:
                _, file, line, _, discriminator = [row for row in sequence.rows if row[0] <= address][-1]
                return self.path(file), line or None, discriminator
        return None, None, 0


def random_lines(
    rng: random.Random,
    version: int,
    offset_size: int,
    address_size: int,
    blocks: Sequence[tuple[int, int]],
    usual: bool,
) -> LinePlan:
    """Make lines for parts of some blocks."""
    comp_dir = rng.choice((None, "/build", "/build/", "relative"))
    directories = ["sub", "/usr/include", "sub/deeper/"][: rng.randint(0, 3)]
    if version >= 5:
        directories.insert(0, comp_dir or "/build")
    listed = [
        (rng.choice((f"f{number}.c", f"dir/f{number}.h", f"/abs/f{number}.c")), rng.randrange(5))
        for number in range(rng.randint(1, 5))
    ]
    program = LineProgram(
        version,
        directories=directories,
        files=listed,
        offset_size=offset_size,
        address_size=address_size,
        line_base=rng.choice((-5, -3, -1, 0)),
        line_range=rng.choice((14, 12, 4, 1)),
        opcode_base=rng.choice((13, 13, 10, 20)),
        path_form=rng.choice(("string", "line_strp", "strp")),
        more_formats=rng.choice(([], [("MD5", "data16", bytes(16))], [("size", "udata", b"\x81\x01")])),
        operands=None,
    )
    if program.opcode_base == 20:
        program.operands = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 2, 0, 1, 3, 0, 0, 1)
    known: list[Optional[str]] = [] if version >= 5 else [None]
    known += [_path(name, directory, directories, comp_dir, version) for name, directory in listed]
    sequences = []
    for low, high in blocks:
        if rng.random() < 0.9:
            sequences.append(_rows(rng, low, high, range(int(usual and version < 5), len(known) + (not usual))))
    rng.shuffle(sequences)
    for sequence in sequences:
        _write(rng, program, sequence)
    if rng.random() < 0.2 and version < 5:
        program.define_file("defined.c", 0)
        known.append(_path("defined.c", 0, directories, comp_dir, version))
    return LinePlan(program, comp_dir, known, sequences)


def _path(name: str, directory: int, directories: Sequence[str], comp_dir: Optional[str], version: int) -> str:
    """Return the whole path: what is relative begins in the directory above it."""
    number = directory - (version < 5)
    parts = [name]
    if 0 <= number < len(directories):
        parts.insert(0, directories[number])
    if comp_dir is not None:
        parts.insert(0, comp_dir)
    start = max([at for at, part in enumerate(parts) if part.startswith("/")], default=0)
    return "/".join([*(part.rstrip("/") for part in parts[start:-1]), parts[-1]])


def _rows(rng: random.Random, low: int, high: int, files: range) -> Run:
    if high - low > 4 and rng.random() < 0.3:
        low, high = low + rng.randrange(2), high - rng.randrange(2)
    rows = []
    at = low
    while at < high:
        for _ in range(rng.choice((1, 1, 1, 2))):
            line = rng.choice((0, rng.randint(1, 60), rng.randint(1, 60), rng.randint(1, 1 << 20)))
            rows.append((at, rng.choice(files), line, rng.randrange(200), rng.choice((0, 0, rng.randint(1, 500)))))
        at += rng.choice((1, 2, 5, 17, 300))
    return Run(rows, high)


def _write(rng: random.Random, program: LineProgram, sequence: Run) -> None:
    start = sequence.rows[0][0]
    if rng.random() < 0.2:  # from an address before it
        program.set_address(start - 7).standard("advance_pc", 7)
    else:
        program.set_address(start)
    at, file, line, column = start, 1, 1, 0
    for row in sequence.rows:
        if row[1] != file:
            program.standard("set_file", row[1])
        if row[3] != column:
            program.standard("set_column", row[3])
        if row[4]:
            program.set_discriminator(row[4])
        if rng.random() < 0.2:
            _say_nothing(rng, program)
        _row(rng, program, row[0] - at, row[2] - line)
        at, file, line, column = row[:4]
    _advance(rng, program, sequence.end - at)
    program.end_sequence()


def _row(rng: random.Random, program: LineProgram, advance: int, lines: int) -> None:
    if program.can_be_special(advance, lines) and rng.random() < 0.6:
        program.special(advance, lines)
        return
    if rng.random() < 0.5 and program.line_base <= 0 < program.line_base + program.line_range:
        program.standard("advance_line", lines)
        if program.can_be_special(advance, 0):
            program.special(advance, 0)
            return
        lines = 0
    _advance(rng, program, advance)
    if lines:
        program.standard("advance_line", lines)
    program.standard("copy")


def _advance(rng: random.Random, program: LineProgram, advance: int) -> None:
    if advance >= program.const_advance and rng.random() < 0.5:
        program.standard("const_add_pc")
        advance -= program.const_advance
    if advance:
        program.standard(rng.choice(("advance_pc", "fixed_advance_pc")), advance)


def _say_nothing(rng: random.Random, program: LineProgram) -> None:
    choice = rng.randrange(5)
    if choice == 0:
        program.extended(0x80 + rng.randrange(100), rng.randbytes(rng.randrange(5)))
    elif choice == 1:
        program.standard("set_basic_block")
    elif choice == 2:
        program.standard("negate_stmt")
    elif choice == 3 and program.opcode_base > 10:
        program.standard("set_prologue_end").standard("set_isa", 300)
    elif choice == 4 and program.opcode_base == 20:
        program.code += b"\x0d\x81\x01\x05"  # an opcode that nobody knows, with its two operands
