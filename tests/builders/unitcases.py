"""Cases of units: where they are, and what stands between them."""

from __future__ import annotations

from typing import Any

from caselist import BOTH, PLAIN, Case, case
from dwarftables import Ranges, arange_set
from dwarfwriter import Die, DwarfFile, Unit
from plaindwarf import function, lines, place, unit


def _one_of(version: int, name: str, low: int, **options: Any) -> Unit:
    program = lines(version, [(low, 10), (low + 16, 0)], offset_size=options.get("offset_size", 4))
    return unit(version, [function(name, place(version, low, low + 16))], program, (low, low + 16), **options)


@case
def a_unit_of_an_unknown_version_between_others() -> Case:
    units = [_one_of(4, "one", 0x1000), _one_of(4, "strange", 0x1010, header_version=77), _one_of(5, "two", 0x1020)]
    return Case(DwarfFile(units), {0x1000: [("one", 10)], 0x1010: [], 0x1020: [("two", 10)]})


@case
def zeros_between_units() -> Case:
    """As assemblers and linkers align what is behind."""
    units = [
        _one_of(version, f"f{version}", 0x1000 + 16 * version, padding=bytes(4 * version)) for version in (2, 3, 4, 5)
    ]
    return Case(DwarfFile(units), {0x1000 + 16 * version: [(f"f{version}", 10)] for version in (2, 3, 4, 5)})


@case
def all_versions_and_formats_in_one_file() -> Case:
    kinds = [(version, size) for version in (2, 3, 4, 5) for size in (4, 8) if version > 2 or size == 4]
    units = [
        _one_of(version, f"f{number}", 0x1000 + 16 * number, offset_size=size)
        for number, (version, size) in enumerate(kinds)
    ]
    return Case(DwarfFile(units), {0x1000 + 16 * number: [(f"f{number}", 10)] for number in range(len(kinds))}, BOTH)


@case
def code_at_the_address_zero() -> Case:
    file = DwarfFile([_one_of(4, "zero", 0), _one_of(4, "one", 0x10)])
    return Case(file, {0: [("zero", 10)], 15: [("zero", 10)], 16: [("one", 10)]}, ["llvm"], {"text_address": 0})


def _discarded(dead: int, length: int = 0x3000, *, aranges: bool = False) -> Case:
    """A unit with a function that the linker took out, before that with the code."""
    rows = [(dead, 66), (dead + length, 0)]
    gone = function("gone", [("low_pc", "addr", dead), ("high_pc", "data8", length)])
    kept = function("kept", place(4, 0x1080, 0x1090))
    pieces = Ranges(
        [("base", 0), ("pair", dead - 1 if dead > 1 << 63 else dead, dead + length), ("pair", 0x1080, 0x1090)]
    )
    program = lines(4, rows, [(0x1080, 50), (0x1090, 0)])
    attributes = [("low_pc", "addr", 0), ("ranges", "sec_offset", pieces)]
    sets = [(dead, length), (0x1080, 16)] if aranges else None
    first = unit(4, [gone, kept], program, None, attributes=attributes, aranges=sets)
    real = function("real", place(4, 0x1000, 0x1080))
    sets = [(0x1000, 0x80)] if aranges else None
    second = unit(4, [real], lines(4, PLAIN), (0x1000, 0x1080), aranges=sets)
    return Case(DwarfFile([first, second]), {0x1000: [("real", 10)], 0x1010: [("real", 20)], 0x1080: [("kept", 50)]})


@case
def what_lld_took_out_is_at_the_last_address() -> Case:
    return _discarded((1 << 64) - 1)


@case
def what_gnu_ld_took_out_is_at_the_address_zero() -> Case:
    return _discarded(0)


@case
def what_gnu_ld_took_out_is_at_the_address_zero_in_aranges_too() -> Case:
    return _discarded(0, aranges=True)


@case
def a_unit_that_does_not_say_where_it_is() -> Case:
    """No ranges of its own, no .debug_aranges: its functions and its lines do."""
    silent = unit(3, [function("f", place(3, 0x1000, 0x1010))], lines(3, [*PLAIN[:2], (0x1020, 0)]), None)
    file = DwarfFile([silent, _one_of(4, "other", 0x1020)])
    return Case(file, {0x1000: [("f", 10)], 0x1010: [(None, 20)], 0x1020: [("other", 10)], 0x1030: []}, ["gnu"])


@case
def aranges_of_unknown_units_and_of_other_sizes() -> Case:
    good = _one_of(4, "f", 0x1000)
    wild = (
        arange_set(7, [(0x1000, 16)], 4, 8)
        + arange_set(0xFFFF, [(0x1000, 16)], 8, 8)
        + arange_set(0, [(0x1000, 16)], 4, 2)
    )
    return Case(DwarfFile([good]), {0x1000: [("f", 10)]}, sections={".debug_aranges": wild})


@case
def type_units_between_others() -> Case:
    """In .debug_info, as DWARF 5 has them: they cover no code, whatever they say."""
    described = Die("class_type", [("name", "string", "C")], [function("member", place(5, 0x1000, 0x1010))])
    types = Unit(5, Die("type_unit", [], [described]), type="type", id=77, described=described)
    return Case(DwarfFile([types, _one_of(5, "f", 0x1000)]), {0x1000: [("f", 10)]}, ["llvm"])


@case
def a_unit_without_abbreviations_in_aranges() -> Case:
    """What it claims goes to the one that can be read."""
    lost, good = _one_of(4, "lost", 0x1000), _one_of(4, "f", 0x1000)
    lost.aranges = [(0x1000, 16)]
    file = DwarfFile([lost, good])
    info = file.sections()[".debug_info"]
    return Case(file, {0x1000: [("f", 10)]}, sections={".debug_info": info[:6] + b"\xff\xff\xff\0" + info[10:]})
