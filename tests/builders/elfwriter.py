"""Writes small ELF files from scratch, so that a test says all there is in its input.

A file has one code segment (.text), symbol tables, a build-id note and a debug link as asked.
`tests/unit/test_symbolize_elf.py` has readelf confirm what is written.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KINDS = {"notype": 0, "object": 1, "func": 2, "section": 3, "file": 4, "ifunc": 10}
BINDINGS = {"local": 0, "global": 1, "weak": 2}
TYPES = {"rel": 1, "exec": 2, "dyn": 3, "core": 4}

PAGE_BYTES = 0x1000
_SHT = {"progbits": 1, "symtab": 2, "strtab": 3, "note": 7, "nobits": 8, "dynsym": 11, "versym": 0x6FFFFFFF}
_ALLOC, _EXEC = 2, 4
_UNDEF, _ABS = 0, 0xFFF1


class ElfSymbol(NamedTuple):
    """One symbol. `section` is ".text", ".data", "undef" or "abs"."""

    name: str
    value: int
    size: int = 0x10
    kind: str = "func"
    bind: str = "global"
    section: str = ".text"
    old_version: bool = False  # of dynamic symbols: not the default version


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    address: int
    data: bytes
    link: str = ""
    entry_bytes: int = 0
    info: int = 0


def write_elf(
    *,
    symbols: Sequence[ElfSymbol] = (),
    dynamic_symbols: Sequence[ElfSymbol] = (),
    build_id: bytes = b"",
    debuglink: tuple[str, int] | None = None,
    text_address: int = 0x1000,
    text: bytes = bytes(0x400),
    sections: Mapping[str, bytes] | None = None,
    section_flags: Mapping[str, int] | None = None,
    bits: int = 64,
    little_endian: bool = True,
    section_table: bool = True,
    type: str = "dyn",
) -> bytes:
    """Return the bytes of an ELF file.

    Args:
        symbols: of .symtab; no table if empty.
        dynamic_symbols: of .dynsym, with .gnu.version.
        build_id: bytes of the NT_GNU_BUILD_ID note; no note if empty.
        debuglink: name and CRC-32 for .gnu_debuglink.
        text_address: virtual address of .text and its PT_LOAD.
        text: contents of .text.
        sections: further sections, name -> bytes, such as .debug_info or .gnu_debugdata.
        section_flags: of those, such as SHF_COMPRESSED.
        bits: 64 or 32.
        little_endian: byte order of everything.
        section_table: False writes none, as sstrip leaves a program.
        type: "dyn", "exec", "rel" or "core".
    """
    order = "<" if little_endian else ">"
    plan = [
        _Section("", 0, 0, 0, b""),
        _Section(".text", _SHT["progbits"], _ALLOC | _EXEC, text_address, text),
        _Section(".data", _SHT["progbits"], _ALLOC, text_address + 0x100000, bytes(16)),
    ]
    note = struct.pack(order + "III4s", 4, len(build_id), 3, b"GNU\0") + _padded(build_id, 4) if build_id else b""
    if note:
        plan.append(_Section(".note.gnu.build-id", _SHT["note"], _ALLOC, text_address + 0x200000, note))
    entry_bytes = 24 if bits == 64 else 16
    for name, strings_name, table in ((".symtab", ".strtab", symbols), (".dynsym", ".dynstr", dynamic_symbols)):
        if table:
            entries, strings, versions = _symbol_table(table, bits, order)
            locals_end = 1 + sum(symbol.bind == "local" for symbol in table)
            plan.append(_Section(name, _SHT[name[1:]], 0, 0, entries, strings_name, entry_bytes, locals_end))
            plan.append(_Section(strings_name, _SHT["strtab"], 0, 0, strings))
            if name == ".dynsym":
                plan.append(_Section(".gnu.version", _SHT["versym"], 0, 0, versions, ".dynsym", 2))
    if debuglink is not None:
        name_bytes = _padded(debuglink[0].encode() + b"\0", 4)
        data = name_bytes + struct.pack(order + "I", debuglink[1])
        plan.append(_Section(".gnu_debuglink", _SHT["progbits"], 0, 0, data))
    for name, data in (sections or {}).items():
        plan.append(_Section(name, _SHT["progbits"], (section_flags or {}).get(name, 0), 0, data))
    return _assemble(plan, note, bits, order, section_table, TYPES[type])


def _padded(data: bytes, multiple: int) -> bytes:
    return data + bytes(-len(data) % multiple)


def _symbol_table(table: Sequence[ElfSymbol], bits: int, order: str) -> tuple[bytes, bytes, bytes]:
    strings = bytearray(b"\0")
    entries = bytearray(24 if bits == 64 else 16)
    versions = bytearray(2)
    places = {".text": 1, ".data": 2, "undef": _UNDEF, "abs": _ABS}
    for symbol in sorted(table, key=lambda s: s.bind != "local"):  # locals first, as the ABI asks
        info = BINDINGS[symbol.bind] << 4 | KINDS[symbol.kind]
        place = places[symbol.section]
        if bits == 64:
            entries += struct.pack(order + "IBBHQQ", len(strings), info, 0, place, symbol.value, symbol.size)
        else:
            entries += struct.pack(order + "IIIBBH", len(strings), symbol.value, symbol.size, info, 0, place)
        versions += struct.pack(order + "H", 0x8002 if symbol.old_version else 2)
        strings += symbol.name.encode("utf-8", "surrogateescape") + b"\0"
    return bytes(entries), bytes(strings), bytes(versions)


def _assemble(plan: list[_Section], note: bytes, bits: int, order: str, section_table: bool, kind: int) -> bytes:
    wide = bits == 64
    header_bytes, segment_bytes, section_bytes = (64, 56, 64) if wide else (52, 32, 40)
    segments = 2 if note else 1
    names = bytearray()
    name_offsets = []
    plan = [*plan, _Section(".shstrtab", _SHT["strtab"], 0, 0, b"")]
    for section in plan:
        name_offsets.append(len(names))
        names += section.name.encode() + b"\0"
    plan[-1] = plan[-1]._replace(data=bytes(names))

    body = bytearray(header_bytes + segments * segment_bytes)
    offsets = []
    for section in plan:
        # A loaded section stands where its page says; the rest is aligned.
        align = PAGE_BYTES if section.name == ".text" else 8
        body += bytes((section.address % align - len(body)) % align)
        offsets.append(len(body))
        body += section.data
    body += bytes(-len(body) % 8)
    table_offset = len(body)

    word = "Q" if wide else "I"
    for section, name, offset in zip(plan, name_offsets, offsets):
        link = next((i for i, s in enumerate(plan) if section.link and s.name == section.link), 0)
        body += struct.pack(
            f"{order}II{word * 4}II{word * 2}",
            name, section.type, section.flags, section.address, offset if section.type else 0, len(section.data),
            link, section.info, 1, section.entry_bytes,
        )  # fmt: skip

    text = plan[1]
    loads = [(1, 5, offsets[1], text.address, len(text.data), PAGE_BYTES)]
    if note:
        loads.append((4, 4, offsets[3], plan[3].address, len(note), 4))
    for number, (type_, flags, offset, address, size, align) in enumerate(loads):
        place = header_bytes + number * segment_bytes
        if wide:
            packed = struct.pack(order + "IIQQQQQQ", type_, flags, offset, address, address, size, size, align)
        else:
            packed = struct.pack(order + "IIIIIIII", type_, offset, address, address, size, size, flags, align)
        body[place : place + segment_bytes] = packed

    machine = {("<", True): 62, ("<", False): 3, (">", True): 21, (">", False): 20}[order, wide]
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    count = len(plan) if section_table else 0
    body[:header_bytes] = identity + struct.pack(
        f"{order}HHI{word * 3}IHHHHHH",
        kind, machine, 1, text.address, header_bytes, table_offset if section_table else 0,
        0, header_bytes, segment_bytes, segments, section_bytes, count, count - 1 if count else 0,
    )  # fmt: skip
    return bytes(body if section_table else body[:table_offset])
