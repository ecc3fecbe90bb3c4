"""Cases of forms and of ranges."""

from __future__ import annotations

from caselist import BOTH, PLAIN, Case, case
from dwarftables import Ranges
from dwarfwriter import Die, DwarfFile
from plaindwarf import abstract, call, function, lines, place, unit

# ---- forms ---------------------------------------------------------------------------------------


@case
def big_indices() -> Case:
    """Of addresses, strings and lists of ranges, in every width."""
    made, want = [], {}
    for number, (strings, addresses) in enumerate(
        (("strx", "addrx"), ("strx3", "addrx3"), ("strx4", "addrx4"), ("strx2", "addrx2"))
    ):
        low = 0x1000 + 0x10 * number
        attributes = [("name", strings, f"f{number}"), ("low_pc", addresses, low), ("high_pc", "udata", 8)]
        made.append(Die("subprogram", attributes))
        want[low] = [(f"f{number}", 10 if number < 4 else 20)]
    many = Ranges([("startx_length", 0x1048, 4), ("startx_endx", 0x1050, 0x1054)])
    made.append(Die("subprogram", [("name", "strx", "in pieces"), ("ranges", "rnglistx", many)]))
    whole = unit(5, made, lines(5, [(0x1000, 10), (0x1100, 0)]))
    whole.addresses.entries += range(1 << 40, (1 << 40) + 60_000)
    whole.strings.entries += [0] * 60_000
    whole.ranges.lists += [Ranges([]) for _ in range(3000)]
    whole.root.attributes += [
        ("addr_base", "sec_offset", lambda: whole.addresses.base),
        ("str_offsets_base", "sec_offset", lambda: whole.strings.base),
        ("rnglists_base", "sec_offset", lambda: whole.ranges.base),
    ]  # fmt: skip
    want |= {0x104B: [("in pieces", 10)], 0x104C: [(None, 10)], 0x1050: [("in pieces", 10)]}
    return Case(DwarfFile([whole]), want)


@case
def forms_that_are_told_in_the_entry() -> Case:
    """DW_FORM_indirect, and that twice; a constant that stands in the abbreviation."""
    shared = abstract("shared")
    inlined = Die("inlined_subroutine", [
        ("abstract_origin", "indirect", ("ref4", shared)), ("low_pc", "indirect", ("addr", 0x1000)),
        ("high_pc", "implicit_const", 8), ("call_file", "implicit_const", 1),
        ("call_line", "indirect", ("indirect", ("udata", 44))),
    ])  # fmt: skip
    body = Die("subprogram", [("name", "indirect", ("strp", "f")), *place(5, 0x1000, 0x1020)], [inlined])
    file = DwarfFile([unit(5, [shared, body], lines(5, PLAIN))])
    return Case(file, {0x1000: [("shared", 10), ("f", 44)], 0x1008: [("f", 10)]}, BOTH)


@case
def high_pc_before_low_pc() -> Case:
    body = Die("subprogram", [("high_pc", "data4", 16), ("name", "string", "f"), ("low_pc", "addr", 0x1000)])
    return Case(DwarfFile([unit(4, [body], lines(4, PLAIN))]), {0x100F: [("f", 10)], 0x1010: [(None, 20)]}, ["llvm"])


def _kernel(version: int) -> Case:
    base = 0xFFFFFFFF81000000
    rows = [(base, 10), (base + 0x100, 0)]
    body = function("start_kernel", place(version, base, base + 0x20))
    file = DwarfFile([unit(version, [body], lines(version, rows), (base, base + 0x100))])
    want = {base: [("start_kernel", 10)], base + 0x1F: [("start_kernel", 10)], base + 0x20: [(None, 10)]}
    return Case(file, want, BOTH, {"text_address": base})


@case
def addresses_of_a_kernel_with_an_end() -> Case:
    """The end is an address, whose highest bit is set."""
    return _kernel(2)


@case
def addresses_of_a_kernel_with_a_length() -> Case:
    return _kernel(4)


@case
def addresses_of_four_bytes() -> Case:
    shared = abstract("shared")
    ranges = [("ranges", "data4", Ranges([("base", 0x1000), ("pair", 4, 8)]))]
    body = function("f", place(3, 0x1000, 0x1020), call(shared, ranges, 3))
    file = DwarfFile([unit(3, [shared, body], lines(3, PLAIN, address_size=4), (0x1000, 0x1020), address_size=4)])
    want = {0x1004: [("shared", 10), ("f", 3)], 0x1008: [("f", 10)], 0x1020: []}
    return Case(file, want, ["llvm"], {"bits": 32})


# ---- ranges --------------------------------------------------------------------------------------


@case
def every_kind_of_range_of_dwarf_5() -> Case:
    kinds = {
        "offset_pair": (("offset_pair", 0, 4),),
        "base_address": (("base_address", 0x1010), ("offset_pair", 0, 4)),
        "base_addressx": (("base_addressx", 0x1020), ("offset_pair", 0, 4)),
        "startx_endx": (("startx_endx", 0x1030, 0x1034),),
        "startx_length": (("startx_length", 0x1040, 4),),
        "start_end": (("start_end", 0x1050, 0x1054),),
        "start_length": (("start_length", 0x1060, 4),),
        "several": (
            ("start_length", 0x1070, 2),
            ("base_address", 0x1070),
            ("offset_pair", 4, 6),
            ("startx_length", 0x1078, 1),
        ),
    }
    made = [
        function(kind, [("ranges", ("sec_offset", "rnglistx")[number % 2], Ranges(entries))])
        for number, (kind, entries) in enumerate(kinds.items())
    ]
    whole = unit(5, made, lines(5, [(0x1000, 10), (0x1100, 0)]))
    whole.root.attributes += [
        ("addr_base", "sec_offset", lambda: whole.addresses.base),
        ("rnglists_base", "sec_offset", lambda: whole.ranges.base),
    ]  # fmt: skip
    want = {0x1000 + 0x10 * number: [(kind, 10)] for number, kind in enumerate(kinds)}
    want |= {0x1004 + 0x10 * number: [(None, 10)] for number in range(7)}
    want |= {0x1072: [(None, 10)], 0x1075: [("several", 10)], 0x1078: [("several", 10)], 0x1079: [(None, 10)]}
    return Case(DwarfFile([whole]), want, ["llvm"])


@case
def ranges_of_a_unit_without_a_base() -> Case:
    """Its low_pc is 0 and its ranges say where it is, as with a section for each function."""
    pieces = Ranges([("pair", 0x1000, 0x1010), ("base", 0x1020), ("pair", 0, 0x10)])
    body = [function("one", place(4, 0x1000, 0x1010)), function("two", place(4, 0x1020, 0x1030))]
    attributes = [("ranges", "sec_offset", pieces), ("low_pc", "addr", 0)]
    file = DwarfFile([unit(4, body, lines(4, PLAIN), None, attributes=attributes)])
    return Case(file, {0x100F: [("one", 10)], 0x1010: [], 0x102F: [("two", 30)]})


@case
def a_list_of_ranges_without_an_end() -> Case:
    open_ended = Ranges([("pair", 0, 4)], ends=False)
    file = DwarfFile([unit(4, [function("f", [("ranges", "sec_offset", open_ended)])], lines(4, PLAIN))])
    return Case(file, {0x1000: [("f", 10)], 0x1004: [(None, 10)]})
