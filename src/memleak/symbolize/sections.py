"""The DWARF sections of a file, as the engine takes them: a place in the file, or memory where they were compressed."""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple, Optional, Union

from .elf import ElfError, ElfImage, Section, open_elf

# In the order of mlsym.h.
NAMES = (
    "abbrev", "addr", "aranges", "info", "line", "line_str", "ranges", "rnglists", "str", "str_offsets",
)  # fmt: skip
MAX_INFLATED_BYTES = 2 << 30  # of one section

_SHF_COMPRESSED = 1 << 11
_ZLIB, _ZSTD = 1, 2
_MOST_RATIO = {_ZLIB: 1100, _ZSTD: 40_000}  # of what a format can hold to its bytes: more is a lie


Bytes = Union[bytes, bytearray]


class Place(NamedTuple):
    """Where the bytes of a section are: in the file, or here."""

    offset: int
    size: int
    memory: Optional[Bytes]


NOWHERE = Place(0, 0, None)


def places(image: ElfImage, *, split: bool = False) -> list[Place]:
    """Return the place of each section of NAMES; of a .dwo those whose names end so.

    Raises:
        ElfError: one is compressed in a way that cannot be undone here.
    """
    return [place(image, name, split=split) for name in NAMES]


def place(image: ElfImage, name: str, *, split: bool = False) -> Place:
    """Return the place of one section; `NOWHERE` if the file has none."""
    ending = ".dwo" if split else ""
    section = image.section(f".debug_{name}{ending}")
    if section is not None:
        if section.flags & _SHF_COMPRESSED:
            return inflated(image, section)
        return Place(section.offset, section.size, None)
    old = image.section(f".zdebug_{name}{ending}")
    return NOWHERE if old is None else old_inflated(image, old)


def name_at(path: str, build_id: str, vaddr: int) -> Optional[str]:
    """Return the name of the section that holds an address; None when the file cannot be read or is of another build."""
    try:
        with open_elf(path) as image:
            if image.build_id != build_id:
                return None
            held = (one.name for one in image.sections if one.address and 0 <= vaddr - one.address < one.size)
            return next(held, None)
    except (ElfError, OSError):
        return None


def inflated(image: ElfImage, section: Section) -> Place:
    """Undo an ELF compression header."""
    order = "<" if image.little_endian else ">"
    header = struct.Struct(order + ("IIQQ" if image.bits == 64 else "III"))
    data = image.data(section)
    if len(data) < header.size:
        raise ElfError(f"{section.name} is cut short")
    fields = header.unpack_from(data)
    kind, size = fields[0], fields[-2]
    return _checked(section, size, _undo(section, kind, memoryview(data)[header.size :], size))


def old_inflated(image: ElfImage, section: Section) -> Place:
    """Undo what GNU did before there was such a header: "ZLIB", the size, most significant byte first."""
    data = image.data(section)
    if data[:4] != b"ZLIB" or len(data) < 12:
        raise ElfError(f"{section.name} is not compressed as its name says")
    size = int.from_bytes(data[4:12], "big")
    return _checked(section, size, _undo(section, _ZLIB, memoryview(data)[12:], size))


def _checked(section: Section, size: int, data: Bytes) -> Place:
    if len(data) != size:
        raise ElfError(f"{section.name} has {len(data)} bytes where it says {size}")
    return Place(0, size, data)


def _undo(section: Section, kind: int, data: memoryview, size: int) -> Bytes:
    if kind not in _MOST_RATIO:
        raise ElfError(f"{section.name} is compressed in an unknown way ({kind})")
    if size > min(MAX_INFLATED_BYTES, (len(data) + 64) * _MOST_RATIO[kind]):
        raise ElfError(f"{section.name} says it has {size} bytes")
    if kind == _ZLIB:
        try:
            return zlib.decompressobj().decompress(data, size + 1) if size else b""
        except zlib.error as error:
            raise ElfError(f"{section.name}: {error}") from error
    return _unzstd(section, data, size)


def _unzstd(section: Section, data: memoryview, size: int) -> Bytes:
    # Python has it from 3.14 on; the library is nearly everywhere, for package managers need it.
    import ctypes

    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise ElfError(f"{section.name} is compressed with zstd, and libzstd.so.1 is not there") from error
    decompress = library.ZSTD_decompress
    decompress.restype = ctypes.c_size_t
    decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    target = bytearray(size)
    done = decompress((ctypes.c_char * size).from_buffer(target), size, bytes(data), len(data))
    if done != size:
        raise ElfError(f"{section.name} is not what zstd makes")
    return target


def alternate_link(image: ElfImage) -> tuple[str, str] | None:
    """Return path and build-id of what dwz took out of this file and others, as the file names it."""
    section = image.section(".gnu_debugaltlink")
    if section is None or not 2 <= section.size <= 4096:
        return None
    name, _, build_id = image.data(section).partition(b"\0")
    return (os.fsdecode(name), build_id.hex()) if name else None
