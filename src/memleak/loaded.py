"""The objects loaded in a running process, as `/proc` shows them from outside."""

import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, Optional

from . import linkmaps

# Defined by an object other than libc, these mean an allocator of its own.
ALLOCATORS = ("malloc", "je_malloc", "mi_malloc", "tc_malloc", "scalable_malloc")
_LIBC = ("libc.so", "libc-", "ld-linux", "ld-2", "ld.so")
_NO_FILES = (b"/memfd:", b"/dev/zero", b"/SYSV")
_DELETED = b" (deleted)"
_TABLE_BYTES_MOST = 64 << 20  # of dynamic symbols, and of their names: a million and more
_SYMBOL = struct.Struct("<IBBHQQ")
_SHN_UNDEF = 0


class LoadedObject(NamedTuple):
    """One load of a file with code. A file loaded in two link namespaces is two of these."""

    path: str  # as the kernel names it, without "(deleted)"
    name: str  # as the loader names it; empty when its lists could not be read, and for the program itself
    deleted: bool
    mapped_bytes: int  # of the mappings that the file backs
    namespace: Optional[int]  # 0 is the program's own; None: not in the loader's lists, or they could not be read
    again: bool  # the same file is loaded once more, at a lower address or in an earlier namespace


class Loaded(NamedTuple):
    """What is loaded in a process."""

    objects: list[LoadedObject]
    namespaces: int  # how many the loader has; 0: its lists could not be read


class _Mapping(NamedTuple):
    low: int
    high: int
    offset: int
    executable: bool


def look(pid: int) -> Loaded:
    """Return the objects loaded in process *pid*. Raises OSError when its mappings may not be read."""
    with open(f"/proc/{pid}/maps", "rb") as stream:
        files = _files(stream)
    lists = linkmaps.read(pid) or []
    listed = sorted((link.dynamic, number, link.name) for number, links in enumerate(lists) for link in links)
    found = []
    for (_, _, raw), mappings in files.items():
        loads = []
        for load in _loads(mappings):
            number, name = _place(load, listed)
            loads.append((len(lists) if number is None else number, load, number, name))
        loads.sort(key=lambda load: load[0])  # stable: by address among equals
        deleted = raw.endswith(_DELETED)
        path = os.fsdecode(raw[: -len(_DELETED)] if deleted else raw)
        for index, (_, load, number, name) in enumerate(loads):
            size = sum(mapping.high - mapping.low for mapping in load)
            found.append(LoadedObject(path, name, deleted, size, number, index > 0))
    return Loaded(found, len(lists))


def _files(lines: Iterable[bytes]) -> dict[tuple[bytes, bytes, bytes], list[_Mapping]]:
    """Return the mappings of each file, in order of address."""
    files: dict[tuple[bytes, bytes, bytes], list[_Mapping]] = {}
    for line in lines:
        fields = line.rstrip(b"\n").split(None, 5)
        if len(fields) == 6 and fields[5].startswith(b"/") and not fields[5].startswith(_NO_FILES):
            low, _, high = fields[0].partition(b"-")
            mapping = _Mapping(int(low, 16), int(high, 16), int(fields[2], 16), b"x" in fields[1])
            files.setdefault((fields[3], fields[4], fields[5]), []).append(mapping)
    return files


def _loads(mappings: list[_Mapping]) -> Iterator[list[_Mapping]]:
    """Split the mappings of one file into those of each load; none for a file without code.

    Each load has the lowest offset that holds code once. What else is mapped at an offset may be so
    twice in one load: of a small object, code and data can stand in one page of the file.
    """
    code = min((mapping.offset for mapping in mappings if mapping.executable), default=None)
    starts = []
    for index, mapping in enumerate(mappings):
        if mapping.executable and mapping.offset == code:
            # Headers and read-only data in front of the code, in ascending order.
            while index and mappings[index - 1].offset < mappings[index].offset:
                index -= 1
            starts.append(index)
    if starts:
        ends = [*starts[1:], len(mappings)]
        for start, end in zip([0, *starts[1:]], ends):
            yield mappings[start:end]


def _place(load: list[_Mapping], listed: list[tuple[int, int, str]]) -> tuple[Optional[int], str]:
    """Return the link namespace and the name that the loader has for a load, by where its dynamic section is."""
    for mapping in load:
        at = bisect_left(listed, (mapping.low, 0, ""))
        if at < len(listed) and listed[at][0] < mapping.high:
            return listed[at][1:]
    return None, ""


def is_libc(path: str) -> bool:
    """Tell whether a file is the C library or its loader, by its name."""
    return os.path.basename(path).startswith(_LIBC)


def is_elf(pid: int, found: LoadedObject) -> bool:
    """Tell whether an object's file is there and is an ELF file: other files with code are not loaded by the loader."""
    from .symbolize.elf import ElfError, FileSource

    if found.deleted:
        return False
    try:
        with closing(FileSource(f"/proc/{pid}/root{found.path}")) as source:
            return source.pread(4, 0) == b"\x7fELF"
    except ElfError:
        return False


def allocators_in(pid: int, found: LoadedObject) -> tuple[str, ...]:
    """Return which of ALLOCATORS the dynamic symbol table of an object's file defines; none if it cannot be read."""
    from .symbolize.elf import ElfError, open_elf

    if found.deleted:
        return ()
    try:
        with open_elf(f"/proc/{pid}/root{found.path}") as image:
            table = next((section for section in image.sections if section.type == "SHT_DYNSYM"), None)
            is_ours = (image.bits, image.little_endian) == (64, True)
            if table is None or not is_ours or not 0 < table.link < len(image.sections):
                return ()
            names = image.sections[table.link]
            if max(table.size, names.size) > _TABLE_BYTES_MOST:
                return ()
            return tuple(_defined(image.data(table), image.data(names)))
    except ElfError:
        return ()


def _defined(table: bytes, names: bytes) -> Iterator[str]:
    """Yield those of ALLOCATORS that are defined. The hash table is not asked: its chains may lead in circles."""
    starts = {name: set(_starts(names, name)) for name in ALLOCATORS}
    if any(starts.values()):
        whole = memoryview(table)[: len(table) // _SYMBOL.size * _SYMBOL.size]
        defined = {name for name, _, _, section, _, _ in _SYMBOL.iter_unpack(whole) if section != _SHN_UNDEF}
        yield from (name for name, places in starts.items() if places & defined)


def _starts(names: bytes, name: str) -> Iterator[int]:
    """Yield each place in a string table where *name* begins: it may be the end of a longer one, as of je_malloc."""
    wanted = name.encode() + b"\0"
    at = names.find(wanted)
    while at >= 0:
        yield at
        at = names.find(wanted, at + 1)


def anonymous_bytes(pid: int) -> Optional[int]:
    """Return how much memory of process *pid* belongs to no file and is in RAM; None when that may not be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
            for line in stream:
                if line.startswith(b"Anonymous:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None
