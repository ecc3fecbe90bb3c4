"""What `doctor` finds in one process: the core, the recording, allocators out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import _native, locate, recording
from ..errors import MemleakError
from . import program
from .doctor import Finding

# Defined by an object other than libc, these mean an allocator of its own.
ALLOCATORS = ("malloc", "je_malloc", "mi_malloc", "tc_malloc", "scalable_malloc")
SANITIZERS = ("libasan", "libtsan", "libmsan", "liblsan", "libhwasan", "libclang_rt")
_AT_SECURE = 23


def process(pid: int) -> Iterator[Finding]:
    """Look at one process from outside; nothing of ours runs in it."""
    subject = f"pid {pid}"
    if not os.path.isdir(f"/proc/{pid}"):
        yield Finding("fail", subject, "there is no such process; memleak ps lists those with a recording")
        return
    try:
        objects = mapped_objects(pid)
    except OSError as error:
        yield Finding("fail", subject, f"/proc/{pid}/maps: {error.strerror}; run as its user or as root")
        return
    cores = [path for path in objects if os.path.basename(path) == _native.LIBRARY]
    if cores:
        yield Finding("ok", subject, f"the core is loaded: {cores[0]}")
    else:
        yield from _why_not_loaded(pid, subject)
    yield from _recording(pid, subject, bool(cores))
    for path, reach in sorted(objects.items()):
        yield from _object(pid, path, reach, subject)


def mapped_objects(pid: int) -> dict[str, int]:
    """Return each mapped file with code and the bytes of its mappings."""
    found: dict[str, int] = {}
    code = set()
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            words = line.rstrip("\n").split(None, 5)
            if len(words) == 6 and words[5].startswith("/"):
                low, _, high = words[0].partition("-")
                path = words[5].removesuffix(" (deleted)")
                found[path] = found.get(path, 0) + int(high, 16) - int(low, 16)
                if "x" in words[1]:
                    code.add(path)
    return {path: size for path, size in found.items() if path in code}


def _why_not_loaded(pid: int, subject: str) -> Iterator[Finding]:
    reason = None
    try:
        reason = program.obstacle(f"/proc/{pid}/exe", _native.library_path())
        if reason is None and _secure(pid):
            reason = "it was started with raised rights, where the loader ignores preloads"
    except (OSError, MemleakError):
        pass
    if reason is None:
        variables = _environment(pid)
        preloaded = b"libmemleak.so" in variables.get(b"LD_PRELOAD", b"")
        reason = (
            "LD_PRELOAD names the core, yet it is not loaded: see the program's first lines on standard error"
            if preloaded
            else "it was started without it"
        )
    yield Finding("fail", subject, f"the core is not loaded: {reason}; start it with memleak run")


def _recording(pid: int, subject: str, loaded: bool) -> Iterator[Finding]:
    try:
        path = locate.find(pid)[0]
        header = recording.load_header(path)
    except (MemleakError, OSError) as error:
        if loaded:
            why = "MEMLEAK=1 is not set there" if b"MEMLEAK" not in _environment(pid) else str(error)
            yield Finding("fail", subject, f"no recording: {why}")
        return
    yield Finding("ok", subject, f"recording {path}: {header.state_name}, mode {header.mode}")
    lost = {name: header.counters[name] for name in ("room_refused", "knobs_rejected") if header.counters.get(name)}
    for name, count in lost.items():
        yield Finding("warn", subject, f"counter {name} = {count}")


def _object(pid: int, path: str, size: int, subject: str) -> Iterator[Finding]:
    name = os.path.basename(path)
    if name.startswith(SANITIZERS):
        yield Finding("warn", subject, f"{path}: a sanitizer's allocator is in place, our numbers cover less")
        return
    if name == _native.LIBRARY or name.startswith(("libc.so", "libc-", "ld-linux", "ld-2")):
        return
    defined = _defines(f"/proc/{pid}/root{path}")
    if defined:
        words = ", ".join(defined)
        detail = f"{path} ({size >> 10} KiB mapped) defines {words}: its own allocator is out of reach"
        yield Finding("warn", subject, detail)


def _defines(path: str) -> list[str]:
    """Return which allocator functions an object's dynamic symbol table defines."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.hash import ELFHashSection, GNUHashSection

    try:
        with open(path, "rb") as stream:
            sections = ELFFile(stream).iter_sections()
            tables = [section for section in sections if isinstance(section, (GNUHashSection, ELFHashSection))]
            found = []
            for table in tables[:1]:
                for name in ALLOCATORS:
                    symbol = table.get_symbol(name)
                    if symbol is not None and symbol["st_shndx"] != "SHN_UNDEF":
                        found.append(name)
            return found
    except (OSError, ELFError, ValueError, KeyError, IndexError, AttributeError):
        return []


def _secure(pid: int) -> bool:
    with open(f"/proc/{pid}/auxv", "rb") as stream:
        raw = stream.read()
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw) - 7, 8)]
    return dict(zip(words[::2], words[1::2])).get(_AT_SECURE, 0) != 0


def _environment(pid: int) -> dict[bytes, bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            pairs = (entry.partition(b"=") for entry in stream.read().split(b"\0"))
            return {name: value for name, _, value in pairs}
    except OSError:
        return {}
