"""Which file a command names, and whether the dynamic loader can bring the core into it."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from typing import BinaryIO, NamedTuple

INTERPRETER_DEPTH = 4  # as the kernel: a script's interpreter may itself be a script
TABLE_BYTES_MOST = 64 << 10  # the kernel takes no more program headers either

_CLASS = {1: "32-bit", 2: "64-bit"}
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10
_DYNAMIC_MOST, _NAMES_MOST = 1 << 16, 1 << 24  # bytes; no program comes near


class NotFoundError(Exception):
    """The program does not exist (a shell would return 127)."""


class NotExecutableError(Exception):
    """The program exists and cannot be executed (a shell would return 126)."""


def find(name: str, path: str | None = None) -> str:
    """Return the file that the command *name* stands for, looked up as a shell does."""
    if "/" not in name:
        found = shutil.which(name, path=path)
        if found is None:
            raise NotFoundError(f"{name}: not found in PATH; give the program's path")
        return found
    if not os.path.exists(name):
        raise NotFoundError(f"{name}: no such file; give the program's path")
    if os.path.isdir(name):
        raise NotExecutableError(f"{name}: is a directory; give a program")
    if not os.access(name, os.X_OK):
        raise NotExecutableError(f"{name}: not executable; chmod +x it, or name its interpreter")
    return name


def obstacle(path: str, core: str) -> str | None:
    """Return why the core cannot be preloaded into the program *path*, None if it can."""
    for _ in range(INTERPRETER_DEPTH):
        try:
            with open(path, "rb", opener=_without_waiting) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return None  # the kernel will refuse it
                head = stream.read(4096)
                if head[:4] == b"\x7fELF":
                    return _privileged(path, os.fstat(stream.fileno())) or _elf_obstacle(path, head, stream, core)
        except OSError:
            # Executable yet not readable, as some system programs are: the loader will say.
            return None
        if head[:2] != b"#!":
            return None
        words = head[2:].split(b"\n", 1)[0].split(b"\0", 1)[0].split(None, 1)  # the kernel stops at a NUL, too
        if not words:
            return None
        path = os.fsdecode(words[0])
    return None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _privileged(path: str, status: os.stat_result) -> str | None:
    """Return why the loader would ignore LD_PRELOAD for this file: it gains rights when executed."""
    gains_user = status.st_mode & stat.S_ISUID and status.st_uid != os.getuid()
    gains_group = status.st_mode & stat.S_ISGID and status.st_gid != os.getgid()
    if gains_user or gains_group:
        return f"{path} is set-{'user' if gains_user else 'group'}-id, and the loader ignores preloads there"
    if os.getuid() != 0:
        try:
            os.getxattr(path, "security.capability")
        except OSError:
            return None
        return f"{path} has file capabilities, and the loader ignores preloads there"
    return None


def _elf_obstacle(path: str, head: bytes, stream: BinaryIO, core: str) -> str | None:
    if len(head) < 64:
        return None  # the kernel will refuse it
    with open(core, "rb") as core_stream:
        ours = core_stream.read(20)
    if head[4:6] != ours[4:6]:
        return f"{path} is a {_CLASS.get(head[4], 'foreign')} program, the core is {_CLASS.get(ours[4], 'foreign')}"
    if head[18:20] != ours[18:20]:
        return f"{path} is for another machine (ELF machine {int.from_bytes(head[18:20], 'little')})"
    loader = _loader(head, stream)
    if loader is None:
        return f"{path} is statically linked: no loader runs that could bring the core in"
    if "ld-linux" not in os.path.basename(loader):
        return f"{path} uses the loader {loader}, the core needs glibc's"
    # It ends the program when anything is preloaded before it. Linked statically, as clang does, it lets us in, and the core leaves.
    for library in _needed(head, stream):
        if library.startswith(("libasan.so", "libclang_rt.asan")):
            return f"{path} is linked with {library}, AddressSanitizer, which must be the first library"
    return None


class _Segment(NamedTuple):
    """What of an ELF program header matters here."""

    kind: int
    offset: int
    address: int
    bytes: int


def _segments(head: bytes, stream: BinaryIO) -> list[_Segment]:
    """Return the program headers of a 64-bit little-endian ELF file, none if they cannot be read."""
    try:
        offset, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
        stream.seek(offset)
        table = stream.read(min(size * count, TABLE_BYTES_MOST))
        whole = min(count, len(table) // size) if size else 0
        entries = [struct.unpack_from("<IIQQQQ", table, index * size) for index in range(whole)]
    except (struct.error, OSError, ValueError, OverflowError):  # the latter two: a place beyond any file
        return []
    return [_Segment(kind, start, address, length) for kind, _, start, address, _, length in entries]


def _loader(head: bytes, stream: BinaryIO) -> str | None:
    """Return the PT_INTERP of a 64-bit little-endian ELF file, None when it has none."""
    for segment in _segments(head, stream):
        if segment.kind == _PT_INTERP:
            return os.fsdecode(_read(stream, segment.offset, min(segment.bytes, 4096)).rstrip(b"\0"))
    return None


def _needed(head: bytes, stream: BinaryIO) -> list[str]:
    """Return the DT_NEEDED names of a 64-bit little-endian ELF file, as far as they can be read."""
    segments = _segments(head, stream)
    found: dict[int, list[int]] = {}
    for segment in segments:
        if segment.kind == _PT_DYNAMIC:
            entries = _read(stream, segment.offset, min(segment.bytes, _DYNAMIC_MOST))
            for tag, value in struct.iter_unpack("<qQ", entries[: len(entries) // 16 * 16]):
                found.setdefault(tag, []).append(value)
    names = b""
    for segment in segments:
        for address in found.get(_DT_STRTAB, []):
            if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.bytes:
                wanted = min(max(found.get(_DT_STRSZ, [0])), _NAMES_MOST)
                names = _read(stream, segment.offset + address - segment.address, wanted)
    return [os.fsdecode(names[at:].partition(b"\0")[0]) for at in found.get(_DT_NEEDED, [])]


def _read(stream: BinaryIO, offset: int, count: int) -> bytes:
    """Return what is there of *count* bytes."""
    try:
        stream.seek(offset)
        return stream.read(count)
    except (OSError, OverflowError, ValueError):
        return b""
