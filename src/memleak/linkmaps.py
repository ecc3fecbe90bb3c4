"""The loader's own lists of a running process: which object is loaded in which link namespace.

Read through `/proc/PID/mem`, as a debugger finds them: from the program headers over the dynamic
section to `r_debug`. Nothing is stopped and nothing of ours runs there, so the lists may be
changing: every word is checked, and a list that cannot be followed ends where it is.
"""

import os
import struct
from collections.abc import Mapping
from typing import NamedTuple, Optional

AT_SECURE = 23
_AT_PHDR, _AT_PHNUM = 3, 5
_PT_DYNAMIC, _PT_PHDR = 2, 6
_DT_DEBUG = 21
_HEADERS_MOST = 64
_DYNAMIC_MOST = 256
_OBJECTS_MOST = 4096  # in all lists together: another 4096 names of each namespace took 3 s
_NAMESPACES_MOST = 16  # DL_NNS of glibc
_NAME_BYTES_MOST = 4096
_ADDRESS_MOST = 1 << 47


class LinkMap(NamedTuple):
    """One object in a list. `name` is as it was asked for, empty for the program itself."""

    name: str
    dynamic: int  # address of its dynamic section


class _Unreadable(Exception):
    """Nothing is mapped there, or it is not what it should be."""


def auxiliary_vector(pid: int) -> dict[int, int]:
    """Return what the kernel told the program at its start, by AT_ number. Raises OSError."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        raw = file.read()
    words = struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8])
    return dict(zip(words[::2], words[1::2]))


def read(pid: int) -> Optional[list[list[LinkMap]]]:
    """Return the objects of each link namespace, the program's own namespace first.

    Other namespaces (dlmopen, auditors) are there from glibc 2.35 on; before, only the first is.

    Returns:
        None where the memory of the process may not be read, or holds no such lists.
    """
    try:
        vector = auxiliary_vector(pid)
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return follow(fd, vector)
    finally:
        os.close(fd)


def follow(fd: int, vector: Mapping[int, int]) -> Optional[list[list[LinkMap]]]:
    """Return the lists in a process's memory, *fd*, whose program headers are where *vector* says; as `read` does."""
    try:
        debug = _debug(fd, vector)
        version, first = struct.unpack("<i4xQ", _bytes(fd, debug, 16))
        namespaces = [_objects(fd, first)]
        seen = {debug}
        while version >= 2 and len(namespaces) < _NAMESPACES_MOST:
            (debug,) = struct.unpack("<Q", _bytes(fd, debug + 40, 8))
            if not debug or debug in seen:
                break
            seen.add(debug)
            version, first = struct.unpack("<i4xQ", _bytes(fd, debug, 16))
            namespaces.append(_objects(fd, first, _OBJECTS_MOST - sum(map(len, namespaces))))
    except _Unreadable:
        return None
    return namespaces if namespaces[0] else None


def _debug(fd: int, vector: Mapping[int, int]) -> int:
    """Return the address of r_debug, which the loader notes in the program's dynamic section."""
    at, count = vector.get(_AT_PHDR, 0), min(vector.get(_AT_PHNUM, 0), _HEADERS_MOST)
    headers = [struct.unpack("<I12xQ16xQ8x", _bytes(fd, at + 56 * index, 56)) for index in range(count)]
    bias = next((at - address for kind, address, _ in headers if kind == _PT_PHDR), 0)
    for kind, address, length in headers:
        if kind != _PT_DYNAMIC:
            continue
        for index in range(min(length // 16, _DYNAMIC_MOST)):
            tag, value = struct.unpack("<QQ", _bytes(fd, address + bias + 16 * index, 16))
            if tag == _DT_DEBUG and value:
                return int(value)
    raise _Unreadable


def _objects(fd: int, at: int, most: int = _OBJECTS_MOST) -> list[LinkMap]:
    found: list[LinkMap] = []
    seen = set()
    while at and at not in seen and len(found) < most:
        seen.add(at)
        try:
            name, dynamic, following = struct.unpack("<8xQQQ", _bytes(fd, at, 32))
            found.append(LinkMap(_text(fd, name), dynamic))
        except _Unreadable:
            break  # unloaded meanwhile
        at = following
    return found


def _text(fd: int, at: int) -> str:
    raw = b""
    while at and b"\0" not in raw and len(raw) < _NAME_BYTES_MOST:
        try:
            raw += _bytes(fd, at + len(raw), 256 - (at + len(raw)) % 256)  # never beyond the page it is in
        except _Unreadable:
            break
    return os.fsdecode(raw.split(b"\0", 1)[0])


def _bytes(fd: int, at: int, count: int) -> bytes:
    if not 0 < at < _ADDRESS_MOST:
        raise _Unreadable
    try:
        raw = os.pread(fd, count, at)
    except OSError:
        raise _Unreadable from None
    if len(raw) < count:
        raise _Unreadable
    return raw
