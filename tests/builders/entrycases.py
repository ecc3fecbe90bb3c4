"""Cases of entries: siblings, functions, calls and names."""

from __future__ import annotations

from typing import Any

from caselist import BOTH, PLAIN, Case, case
from dwarftables import Ranges
from dwarfwriter import NEXT, Die, DwarfFile, Unit
from plaindwarf import FILE, abstract, call, function, lines, place, unit

# ---- siblings ------------------------------------------------------------------------------------


def _nested(sibling: Any) -> DwarfFile:
    next_one = ("sibling", "ref4", sibling)
    inner = function("inner", place(4, 0x1020, 0x1030), attributes=[next_one])
    method = function("method", place(4, 0x1010, 0x1020), attributes=[("decl_line", "data1", 1)])
    home = Die("class_type", [("name", "string", "C"), next_one], [method, Die("structure_type", [], [inner])])
    space = Die("namespace", [("name", "string", "n"), next_one], [home])
    outer = function(
        "outer", place(4, 0x1000, 0x1010), Die("lexical_block", [next_one], [Die("variable")]), attributes=[next_one]
    )
    return DwarfFile([unit(4, [outer, space], lines(4, PLAIN))])


NESTED = {0x1005: [("outer", 10)], 0x1010: [("method", 20)], 0x102F: [("inner", 30)], 0x1030: [(None, 30)]}


@case
def functions_inside_of_classes_with_siblings() -> Case:
    """They are jumped over at first."""
    return Case(_nested(NEXT), NESTED, BOTH)


@case
def a_sibling_that_lies_behind() -> Case:
    return Case(_nested(1), NESTED)


@case
def a_sibling_outside_of_the_unit() -> Case:
    return Case(_nested(0xFFFFFFF0), NESTED)


@case
def a_sibling_by_its_place_in_the_section() -> Case:
    """DW_FORM_ref_addr, in a unit that is not the first."""
    inner = function("inner", place(4, 0x1010, 0x1020))
    space = Die("namespace", [("name", "string", "n"), ("sibling", "ref_addr", NEXT)], [inner])
    last = function("last", place(4, 0x1000, 0x1010))
    first = unit(4, [], covers=(0x5000, 0x5001))
    file = DwarfFile([first, unit(4, [space, last], lines(4, PLAIN))])
    return Case(file, {0x1000: [("last", 10)], 0x1010: [("inner", 20)]}, BOTH)


# ---- functions and lines -------------------------------------------------------------------------


@case
def functions_that_overlap() -> Case:
    """The later one has what both cover."""
    first, second = function("first", place(4, 0x1000, 0x1020)), function("second", place(4, 0x1010, 0x1030))
    want = {0x100F: [("first", 10)], 0x1010: [("second", 20)], 0x102F: [("second", 30)]}
    return Case(DwarfFile([unit(4, [first, second], lines(4, PLAIN))]), want)


@case
def a_function_of_no_length() -> Case:
    empty, whole = function("empty", place(4, 0x1010, 0x1010)), function("whole", place(4, 0x1000, 0x1020))
    file = DwarfFile([unit(4, [whole, empty], lines(4, PLAIN))])
    return Case(file, {0x1010: [("whole", 20)], 0x1011: [("whole", 20)]}, BOTH)


@case
def a_line_without_a_function() -> Case:
    file = DwarfFile([unit(4, [function("f", place(4, 0x1000, 0x1010))], lines(4, PLAIN))])
    return Case(file, {0x1000: [("f", 10)], 0x1015: [(None, 20)]}, BOTH)


@case
def a_function_without_lines() -> Case:
    rows = [(0x1000, 10), (0x1010, 0)]
    file = DwarfFile([unit(4, [function("f", place(4, 0x1000, 0x1020))], lines(4, rows))])
    return Case(file, {0x100F: [("f", 10)], 0x1010: [], 0x2000: []})


@case
def a_unit_without_lines() -> Case:
    return Case(DwarfFile([unit(4, [function("f", place(4, 0x1000, 0x1020))])]), {0x1000: []})


@case
def a_line_of_zero_inside_of_calls() -> Case:
    """What the compiler made up has no line of its own, and its callers have theirs."""
    shared = abstract("shared")
    inlined = call(shared, place(4, 0x1000, 0x1008), 77)
    file = DwarfFile(
        [unit(4, [shared, function("f", place(4, 0x1000, 0x1010), inlined)], lines(4, [(0x1000, 0), (0x1100, 0)]))]
    )
    return Case(file, {0x1000: [("shared", FILE, None, 0), ("f", 77)], 0x1008: []})


@case
def calls_inlined_three_hundred_times_into_one_another() -> Case:
    """256 frames are shown, the innermost ones."""
    shared = abstract("shared")
    inner = None
    for depth in range(300, 0, -1):
        inner = call(shared, place(4, 0x1000, 0x1010), depth, *([inner] if inner else []))
    file = DwarfFile([unit(4, [shared, function("f", place(4, 0x1000, 0x1020), inner)], lines(4, PLAIN))])
    deep = [("shared", 10), *(("shared", line) for line in range(300, 45, -1))]
    return Case(file, {0x1000: deep, 0x1010: [("f", 20)]})


@case
def calls_in_pieces_and_side_by_side() -> Case:
    one, two = abstract("one"), abstract("two")
    pieces = [("ranges", "sec_offset", Ranges([("pair", 0, 4), ("pair", 0x14, 0x18)]))]
    inside = call(two, place(4, 0x1014, 0x1016), 5)
    body = [call(one, pieces, 3, inside), Die("lexical_block", [], [call(two, place(4, 0x1004, 0x1008), 4)])]
    file = DwarfFile([unit(4, [one, two, function("f", place(4, 0x1000, 0x1020), *body)], lines(4, PLAIN))])
    want = {
        0x1000: [("one", 10), ("f", 3)], 0x1004: [("two", 10), ("f", 4)], 0x1008: [("f", 10)],
        0x1015: [("two", 20), ("one", 5), ("f", 3)], 0x1016: [("one", 20), ("f", 3)], 0x1018: [("f", 20)],
    }  # fmt: skip
    return Case(file, want, BOTH)


# ---- names ---------------------------------------------------------------------------------------


@case
def origins_that_go_in_a_circle() -> Case:
    one, two = Die("subprogram"), Die("subprogram")
    one.attributes.append(("abstract_origin", "ref4", two))
    two.attributes.append(("specification", "ref4", one))
    lonely = Die("subprogram", place(4, 0x1010, 0x1020))
    lonely.attributes.append(("abstract_origin", "ref4", lonely))
    body = function(None, place(4, 0x1000, 0x1010), attributes=[("abstract_origin", "ref4", one)])
    file = DwarfFile([unit(4, [one, two, body, lonely], lines(4, PLAIN))])
    return Case(file, {0x1000: [(None, 10)], 0x1010: [(None, 20)]})


@case
def an_origin_that_is_nowhere() -> Case:
    nowhere = [("ref4", 0xFFFFFF), ("ref_addr", 0xFFFFFFF0), ("ref_addr", 2), ("ref8", (1 << 64) - 8), ("ref_sig8", 9)]
    wild = [
        function(None, place(4, 0x1000 + 4 * at, 0x1004 + 4 * at), attributes=[("abstract_origin", form, value)])
        for at, (form, value) in enumerate(nowhere)
    ]
    file = DwarfFile([unit(4, wild, lines(4, PLAIN))])
    return Case(file, {0x1000 + 4 * at: [(None, 20 if at == 4 else 10)] for at in range(5)})


@case
def a_chain_of_origins_across_units() -> Case:
    """From an inlined call over its function to the declaration in a class of another unit."""
    declared = Die("subprogram", [("name", "string", "method"), ("linkage_name", "string", "_ZN1C6methodEv")])
    home = Die("class_type", [("name", "string", "C")], [declared])
    shared = Die("subprogram", [("specification", "ref_addr", declared), ("inline", "data1", 1)])
    other = Unit(4, Die("partial_unit", [], [home, shared]), offset_size=8)
    body = function("f", place(4, 0x1000, 0x1020), call(shared, place(4, 0x1000, 0x1008), 3, form="ref_addr"))
    file = DwarfFile([unit(4, [body], lines(4, PLAIN)), other])
    return Case(file, {0x1000: [("_ZN1C6methodEv", 10), ("f", 3)], 0x1008: [("f", 10)]}, ["llvm"])


@case
def a_reference_of_dwarf_2_is_as_wide_as_an_address() -> Case:
    shared = abstract("shared")
    body = function("f", place(2, 0x1000, 0x1020), call(shared, place(2, 0x1000, 0x1008), 3, form="ref_addr"))
    file = DwarfFile(
        [unit(2, [body], lines(2, PLAIN)), Unit(2, Die("compile_unit", [("name", "string", "g.c")], [shared]))]
    )
    return Case(file, {0x1000: [("shared", 10), ("f", 3)]}, BOTH)


@case
def a_name_of_half_a_million_bytes() -> Case:
    name = "n" * 500_000
    return Case(
        DwarfFile([unit(4, [function(name, place(4, 0x1000, 0x1020))], lines(4, PLAIN))]), {0x1000: [(name, 10)]}
    )


@case
def a_name_in_another_unit_behind_long_values() -> Case:
    shared = Die("subprogram", [("description", "string", "d" * 30_000), ("name", "string", "shared")])
    body = function(None, place(4, 0x1000, 0x1020), attributes=[("abstract_origin", "ref_addr", shared)])
    file = DwarfFile([unit(4, [body], lines(4, PLAIN)), Unit(4, Die("compile_unit", [], [shared]))])
    return Case(file, {0x1000: [("shared", 10)]}, ["llvm"])
