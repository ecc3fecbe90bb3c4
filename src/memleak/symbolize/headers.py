"""Which build an ELF file is, and what could name its functions, by its headers alone.

`ElfImage` tells the same and more, but loading pyelftools takes 45 ms: half of what an answer out of
the cache may take. Every byte is hostile, as there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .elf import (
    MAX_NOTES_BYTES,
    MAX_SECTIONS,
    MAX_SEGMENTS,
    MAX_STRUCTURE_BYTES,
    ElfError,
    FileSource,
    Source,
    build_id_of,
    string_at,
)

_PROGRAMS = (2, 3)  # ET_EXEC, ET_DYN
_PT_LOAD, _PT_NOTE = 1, 4
_SHT_NOTE, _SHT_NOBITS = 7, 8
_IN_SECTION_0 = 0xFFFF  # a number too large for the header
_MAX_NAMES_BYTES = 1 << 20


class Headers(NamedTuple):
    """What the headers of one program or library say.

    Attributes:
        build_id: as hex, "" if there is none.
        has_lines: whether there is debug information to find source lines in.
        has_symbols: whether there is a symbol table of its local functions, too.
        debuglink: name and CRC-32 of the separate debug file, if the binary names one.
        altlink: path of what dwz took out of it, as the file names it.
        bits: 64 or 32.
        size: of the file, in bytes.
        modified_ns: when it was changed last, in nanoseconds since the epoch.
    """

    build_id: str
    has_lines: bool
    has_symbols: bool
    debuglink: tuple[str, int] | None
    altlink: str | None
    bits: int
    size: int
    modified_ns: int


def read_headers(path: str) -> Headers:
    """Read the file at *path*.

    Raises:
        ElfError: missing, unreadable, not a regular file, or not a program or library.
    """
    source = FileSource(path)
    try:
        return _Reader(source).headers(source.file.mtime_ns)
    finally:
        source.close()


class Load(NamedTuple):
    """A part of a file that is mapped when it is run: where in the file, at which address, how many bytes."""

    offset: int
    address: int
    size: int


def read_loads(path: str) -> list[Load]:
    """Return the parts of the file at *path* that are mapped when it is run.

    Raises:
        ElfError: as `read_headers`.
    """
    source = FileSource(path)
    try:
        return _Reader(source).loads()
    finally:
        source.close()


class _Section(NamedTuple):
    name: str
    type: int
    offset: int
    size: int


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._budget = MAX_STRUCTURE_BYTES

    def _start(self) -> tuple[int, ...]:
        """Return the places and numbers of the two tables: phoff, shoff, phentsize, phnum, shentsize, shnum, shstrndx."""
        start = self._bytes(0, 16)
        if start[:4] != b"\x7fELF":
            raise ElfError("not an ELF file")
        if start[4:5] not in (b"\1", b"\2") or start[5:6] not in (b"\1", b"\2"):
            raise ElfError("not a usable ELF file: of no known class or byte order")
        self._little = start[5] == 1
        self._order = "<" if self._little else ">"
        self._wide = start[4] == 2
        word = "Q" if self._wide else "I"
        kind, _, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = self._unpack(
            f"HHI{word * 3}IHHHHHH", 16
        )
        if kind not in _PROGRAMS:
            raise ElfError(f"neither a program nor a library (type {kind})")
        self._section_layout = f"II{word * 4}II{word * 2}"
        self._segment_layout = "IIQQQQQQ" if self._wide else "IIIIIIII"
        return phoff, shoff, phentsize, phnum, shentsize, shnum, shstrndx

    def loads(self) -> list[Load]:
        phoff, shoff, phentsize, phnum, *_ = self._start()
        segments = self._segments(phoff, phentsize, phnum, shoff)
        offset, address, size = (2, 3, 5) if self._wide else (1, 2, 4)
        return [Load(one[offset], one[address], one[size]) for one in segments if one[0] == _PT_LOAD]

    def headers(self, modified_ns: int) -> Headers:
        phoff, shoff, phentsize, phnum, shentsize, shnum, shstrndx = self._start()
        sections = self._sections(shoff, shentsize, shnum, shstrndx)
        by_name: dict[str, _Section] = {}
        for section in sections:
            if section.type != _SHT_NOBITS:
                by_name.setdefault(section.name, section)
        build_id = self._build_id(sections, phoff, phentsize, phnum, shoff)
        return Headers(
            build_id,
            any({prefix + "info", prefix + "line"} <= by_name.keys() for prefix in (".debug_", ".zdebug_")),
            ".symtab" in by_name,
            self._debuglink(by_name.get(".gnu_debuglink")),
            self._altlink(by_name.get(".gnu_debugaltlink")),
            64 if self._wide else 32,
            self._source.size,
            modified_ns,
        )

    def _bytes(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self._source.size - offset))
        if count > self._budget:
            raise ElfError("its headers are larger than any real program's")
        self._budget -= count
        return self._source.pread(count, offset)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        form = struct.Struct(self._order + layout)
        data = self._bytes(offset, form.size)
        if len(data) < form.size:
            raise ElfError("not a usable ELF file: it is cut short")
        return form.unpack(data)

    def _sections(self, offset: int, stride: int, count: int, names_index: int) -> list[_Section]:
        if offset == 0:
            return []
        if count == 0:
            count = self._unpack(self._section_layout, offset)[5]
        if count > MAX_SECTIONS:
            raise ElfError(f"it says it has {count} sections")
        # A table cut short is a table missing: the program headers may still give the build-id.
        if count == 0 or offset + count * stride > self._source.size:
            return []
        table = [self._unpack(self._section_layout, offset + index * stride) for index in range(count)]
        if names_index == _IN_SECTION_0:
            names_index = table[0][6]
        names = b""
        if 0 < names_index < count:
            names = self._bytes(table[names_index][4], min(table[names_index][5], _MAX_NAMES_BYTES))
        return [
            _Section(string_at(names, entry[0], 256).decode("ascii", "replace"), entry[1], entry[4], entry[5])
            for entry in table
        ]

    def _build_id(self, sections: list[_Section], offset: int, stride: int, count: int, shoff: int) -> str:
        # Sections first: in a separate debug file the PT_NOTE offsets may point nowhere.
        for section in sections:
            if section.type == _SHT_NOTE:
                found = self._build_id_in(section.offset, section.size)
                if found:
                    return found
        for segment in self._segments(offset, stride, count, shoff):
            if segment[0] == _PT_NOTE:
                offset_at, size_at = (2, 5) if self._wide else (1, 4)
                found = self._build_id_in(segment[offset_at], segment[size_at])
                if found:
                    return found
        return ""

    def _segments(self, offset: int, stride: int, count: int, shoff: int) -> Iterator[tuple[int, ...]]:
        if count == _IN_SECTION_0:
            count = self._unpack(self._section_layout, shoff)[7]
        for index in range(min(count, MAX_SEGMENTS)):
            yield self._unpack(self._segment_layout, offset + index * stride)

    def _build_id_in(self, offset: int, size: int) -> str:
        return build_id_of(self._bytes(offset, min(size, MAX_NOTES_BYTES)), self._order)

    def _debuglink(self, section: _Section | None) -> tuple[str, int] | None:
        """Return the link; a name with a directory in it is refused: the file is looked for in fixed places only."""
        if section is None or not 6 <= section.size <= 4096:
            return None
        data = self._bytes(section.offset, section.size)
        raw = data.split(b"\0", 1)[0]
        crc = data[(len(raw) + 4) & ~3 :][:4]
        if not raw or b"/" in raw or raw in (b".", b"..") or len(crc) < 4:
            return None
        return os.fsdecode(raw), int.from_bytes(crc, "little" if self._little else "big")

    def _altlink(self, section: _Section | None) -> str | None:
        if section is None or not 2 <= section.size <= 4096:
            return None
        return os.fsdecode(self._bytes(section.offset, section.size).split(b"\0", 1)[0]) or None
