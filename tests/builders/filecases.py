"""Cases of debug information in several files."""

from __future__ import annotations

from caselist import PLAIN, Case, case
from dwarftables import Ranges
from dwarfwriter import Die, DwarfFile, Unit
from elfwriter import write_elf
from plaindwarf import abstract, call, lines, place, unit


def _split(version: int, *, id_of_dwo: int = 0x1234) -> Case:
    name, unit_type = ("dwo_name", "skeleton_unit") if version >= 5 else ("GNU_dwo_name", "compile_unit")
    skeleton = Unit(version, Die(unit_type), type="skeleton", id=0x1234)
    shared = Die(
        "subprogram", [("name", "strx1" if version >= 5 else "GNU_str_index", "shared"), ("inline", "data1", 1)]
    )
    address = "addrx" if version >= 5 else "GNU_addr_index"
    two = [("offset_pair", 0, 2), ("startx_length", 0x1004, 2)] if version >= 5 else [("pair", 0, 2), ("pair", 4, 6)]
    inlined = call(shared, [("ranges", "rnglistx" if version >= 5 else "sec_offset", Ranges(two))], 3)
    body = Die(
        "subprogram", [("name", "string", "f"), ("low_pc", address, 0x1000), ("high_pc", "data1", 0x20)], [inlined]
    )
    root = Die("compile_unit", [("name", "string", "f.c")], [shared, body])
    skeleton.root.attributes = [
        *place(version, 0x1000, 0x1100), ("stmt_list", "sec_offset", lines(version, PLAIN)),
        ("comp_dir", "string", "/src"), (name, "string", "f.dwo"),
    ]  # fmt: skip
    if version >= 5:
        skeleton.root.attributes.append(("addr_base", "sec_offset", lambda: skeleton.addresses.base))
    else:
        root.attributes.append(("GNU_dwo_id", "data8", id_of_dwo))
        skeleton.root.attributes += [
            ("GNU_dwo_id", "data8", 0x1234), ("GNU_addr_base", "sec_offset", lambda: skeleton.addresses.base),
            ("GNU_ranges_base", "sec_offset", lambda: skeleton.ranges.base),
        ]  # fmt: skip
    whole = Unit(version, root, type="split_compile", id=id_of_dwo, skeleton=skeleton)
    before = Unit(
        version, Die("type_unit", [], [abstract("a member")]), type="split_type" if version >= 5 else "type", id=5
    )
    split = DwarfFile([before, whole], dwo=True)
    want = {
        0x1000: [("shared", 10), ("f", 3)],
        0x1002: [("f", 10)],
        0x1005: [("shared", 10), ("f", 3)],
        0x1020: [(None, 30)],
    }
    if id_of_dwo != 0x1234:
        want = {address: [(None, line)] for address, line in ((0x1000, 10), (0x1010, 20))}
    file = DwarfFile([skeleton], splits=[split])
    return Case(file, want, beside={"f.dwo": lambda: write_elf(type="rel", sections=split.sections())})


@case
def a_split_unit_of_dwarf_5() -> Case:
    return _split(5)


@case
def a_split_unit_of_gnus_kind() -> Case:
    return _split(4)


@case
def a_split_file_of_another_build() -> Case:
    return _split(5, id_of_dwo=0x4321)


@case
def a_split_file_of_another_build_of_gnus_kind() -> Case:
    return _split(4, id_of_dwo=0x4321)


def _alternate(version: int, *, is_there: bool = True, build_id: bytes = b"\x07" * 20) -> Case:
    old = version < 5
    shared = abstract("shared")
    alternate = DwarfFile([Unit(version, Die("partial_unit", [], [shared]))])
    link = Die("subprogram", [("abstract_origin", "GNU_ref_alt" if old else "ref_sup4", shared)])
    body = Die("subprogram", [("name", "GNU_strp_alt" if old else "strp_sup", "f"), *place(version, 0x1000, 0x1020)], [
        call(link, place(version, 0x1000, 0x1008), 3),
        call(shared, place(version, 0x1008, 0x1010), 4, form="GNU_ref_alt" if old else "ref_sup8"),
    ])  # fmt: skip
    file = DwarfFile([unit(version, [link, body], lines(version, PLAIN))], alternate=alternate)
    one, two = ("shared", "f") if is_there and build_id == b"\x07" * 20 else (None, None)
    want = {0x1000: [(one, 10), (two, 3)], 0x1008: [(one, 10), (two, 4)], 0x1010: [(two, 20)]}
    beside = {"shared.debug": lambda: write_elf(type="rel", sections=alternate.sections(), build_id=build_id)} if is_there else {}
    return Case(file, want, beside=beside, sections={".gnu_debugaltlink": b"shared.debug\0" + b"\x07" * 20})


@case
def what_dwz_shares_between_files() -> Case:
    return _alternate(4)


@case
def a_supplementary_file_of_dwarf_5() -> Case:
    return _alternate(5)


@case
def a_shared_file_of_another_build() -> Case:
    return _alternate(4, build_id=b"\x08" * 20)


@case
def a_shared_file_that_is_gone() -> Case:
    return _alternate(4, is_there=False)
