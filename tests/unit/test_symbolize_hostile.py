"""A megabyte of hostile debug information takes seconds: whatever is referred to again and again counts each time."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from dwarfforms import fixed, uleb
from dwarftables import Ranges, arange_set
from dwarfwriter import Die, DwarfFile, Unit
from elfwriter import write_elf
from linewriter import LineProgram
from plaindwarf import abstract, call, function, lines, place, unit

from memleak.symbolize.engine import DwarfEngine

ADDRESSES = range(0x1000, 0x1000 + 10_000)
ALL = (ADDRESSES.start, ADDRESSES.stop)
WORK = 100_000_000  # a tenth of what is allowed
CPU_S = 8  # 2 on a machine that has nothing else to do


def rows(version: int = 4) -> LineProgram:
    return lines(version, [(ALL[0], 10), (ALL[1], 0)])


def many_units_with_a_large_table_of_abbreviations() -> dict[str, bytes]:
    table = b"".join(uleb(code) + b"\x2e\0\x03\x08\0\0" for code in range(1, 100_000)) + b"\0"
    header = fixed(4, 2)
    infos = b"".join(fixed(9, 4) + header + fixed(number % 50 * 8 + 1, 4) + b"\x08\x01\0" for number in range(60_000))
    return {".debug_info": infos, ".debug_abbrev": bytes(400) + table, ".debug_line": b"\0"}


def many_units_with_one_list_of_ranges() -> dict[str, bytes]:
    ranges = Ranges([("pair", 0x100000 + at, 0x100001 + at) for at in range(60_000)])
    units = [Unit(4, Die("compile_unit", [("ranges", "sec_offset", lambda: 0)])) for _ in range(20_000)]
    units[0].root = Die("compile_unit", [("ranges", "sec_offset", ranges)])
    return {**DwarfFile(units, one_abbrev_table=True).sections(), ".debug_line": b"\0"}


def many_address_ranges_that_cover_all() -> dict[str, bytes]:
    file = DwarfFile([unit(4, [], rows(), ALL)])
    return {**file.sections(), ".debug_aranges": arange_set(0, [(ALL[0], len(ADDRESSES))] * 60_000, 4, 8)}


def calls_inlined_without_end_that_cover_all() -> dict[str, bytes]:
    """By hand: a tree as deep as this one is beyond the writer."""
    shared = abstract("shared")
    inner = call(shared, place(4, *ALL), 7)
    body = function("f", place(4, *ALL), inner)
    file = DwarfFile([unit(4, [shared, body], rows(), ALL)])
    sections = file.sections()
    info = bytearray(sections[".debug_info"])
    entry = bytes(info[inner.offset : inner.end])
    deep = entry * 20_000 + bytes(3)
    info[inner.offset : inner.end] = deep
    info[:4] = fixed(len(info) - 4, 4)
    abbrevs = sections[".debug_abbrev"].replace(b"\x1d\0", b"\x1d\1")
    return {**sections, ".debug_info": bytes(info), ".debug_abbrev": abbrevs}


def functions_side_by_side_that_cover_all() -> dict[str, bytes]:
    made = [function("f", place(4, *ALL)) for _ in range(20_000)]
    return DwarfFile([unit(4, made, rows(), ALL)]).sections()


def entries_of_very_many_attributes_without_bytes() -> dict[str, bytes]:
    file = DwarfFile([unit(4, [Die("subprogram", [("low_pc", "addr", 1)])], rows(), ALL)])
    sections = file.sections()
    many = uleb(77) + b"\x2e\0\x11\x19" + b"\x3c\x19" * 300_000 + b"\0\0\0"
    info = sections[".debug_info"][:-1] + uleb(77) * 300_000
    return {
        **sections,
        ".debug_abbrev": sections[".debug_abbrev"][:-1] + many,
        ".debug_info": fixed(len(info) - 4, 4) + info[4:],
    }


def sequences_that_cover_all() -> dict[str, bytes]:
    program = lines(4, *[[(ALL[0], 10), (ALL[1], 0)]] * 40_000)
    return DwarfFile([unit(4, [], program, ALL)]).sections()


def units_that_share_a_line_program() -> dict[str, bytes]:
    """None says where it is: each may have lines of any address."""
    long = LineProgram(4, files=[("f.c", 0)])
    long.set_address(0x900000)
    long.code += b"\x01" * 500_000
    units = [Unit(4, Die("compile_unit", [("stmt_list", "sec_offset", lambda: 0)])) for _ in range(20_000)]
    units[0].root = Die("compile_unit", [("stmt_list", "sec_offset", long)])
    return DwarfFile(units, one_abbrev_table=True).sections()


def files_of_dwarf_5_in_a_table_without_bytes() -> dict[str, bytes]:
    program = LineProgram(5, directories=["/src"], files=[("f.c", 0)])
    file = DwarfFile([unit(5, [], program, ALL)])
    sections = file.sections()
    head = (
        fixed(5, 2)
        + b"\x08\0"
        + fixed(900, 4)
        + b"\x01\x01\x01\xfb\x0e\x0d"
        + bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
    )
    table = head + b"\xff" + b"\x02\x19" * 255 + uleb(1 << 60) + bytes(900)
    return {**sections, ".debug_line": fixed(len(table), 4) + table}


HOSTILE = [
    many_units_with_a_large_table_of_abbreviations,
    many_units_with_one_list_of_ranges,
    many_address_ranges_that_cover_all,
    calls_inlined_without_end_that_cover_all,
    functions_side_by_side_that_cover_all,
    entries_of_very_many_attributes_without_bytes,
    sequences_that_cover_all,
    units_that_share_a_line_program,
    files_of_dwarf_5_in_a_table_without_bytes,
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_time_is_bounded(make, tmp_path, monkeypatch):
    monkeypatch.setattr("memleak.symbolize.engine.WORK", WORK)
    path = tmp_path / "program"
    path.write_bytes(write_elf(sections=make()))
    assert path.stat().st_size < 4 << 20
    before = resource.getrusage(resource.RUSAGE_SELF)
    engine = DwarfEngine()
    engine.lookup(str(path), list(ADDRESSES))
    engine.close()
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < CPU_S


ASK = """
import resource, sys
from memleak.symbolize.engine import DwarfEngine
DwarfEngine().lookup(sys.argv[1], [0])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = DwarfEngine().lookup(sys.argv[1], list(range(0x1000, 0x1000 + 10_000)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def functions_of_one_very_long_name() -> dict[str, bytes]:
    name = ("name", "strp", "n" * 1_000_000)
    made = [Die("subprogram", [name, *place(4, address, address + 1)]) for address in ADDRESSES]
    return DwarfFile([unit(4, made, rows(), ALL)]).sections()


def functions_that_share_a_long_list_of_ranges() -> dict[str, bytes]:
    shared = Ranges([("pair", 0x100000 + 2 * at, 0x100001 + 2 * at) for at in range(60_000)])
    units = []
    for low in range(ALL[0], ALL[0] + 12 * 16, 16):
        made = [Die("subprogram", [("ranges", "sec_offset", lambda: 0)]) for _ in range(220)]
        units.append(unit(4, made, lines(4, [(low, 10), (low + 16, 0)]), (low, low + 16)))
    units[0].root.children[0].attributes = [("ranges", "sec_offset", shared)]
    return DwarfFile(units).sections()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "make",
    [functions_of_one_very_long_name, functions_that_share_a_long_list_of_ranges],
    ids=lambda make: make.__name__,
)
def test_memory_is_bounded(make, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(write_elf(sections=make()))
    assert path.stat().st_size < 4 << 20
    ran = subprocess.run([sys.executable, "-c", ASK, str(path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 512 << 10
