"""Where a recorded binary and its separate debug information may live, and what was tried.

A candidate counts only if it is of the recorded build. Names from another build would be wrong
ones that look right, so a file that cannot be verified is refused, never guessed at.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .elf import ElfError, FileSource
from .headers import Headers, read_headers

if TYPE_CHECKING:
    from .debuginfod import Debuginfod

SYSTEM_DEBUG_DIR = "/usr/lib/debug"
VDSO = ("[vdso]", "linux-vdso.so.1", "linux-gate.so.1")  # the kernel, the loader and 32-bit say so
_DELETED = " (deleted)"
_RECORDED_BUILD_ID_HEX = 40  # a recording keeps 20 bytes of a build-id


class Binary(NamedTuple):
    """What was found for one recorded module.

    Attributes:
        symbol_files: files whose symbol tables name its functions, best first.
        line_file: the file with its debug information, or None.
        problem: why there are no names at all, or None.
    """

    symbol_files: tuple[str, ...]
    line_file: str | None
    problem: str | None


def recorded_path(path: str) -> str:
    """Return *path* without the " (deleted)" that the kernel appends to a replaced file."""
    return path.removesuffix(_DELETED)


def has_file(path: str) -> bool:
    """Tell whether a recorded module is a file: not the kernel's code, [stack], [heap] or code made at run time."""
    return bool(path) and path not in VDSO and not path.startswith("[")


def is_perf_map(path: str) -> bool:
    """Tell whether a file is named as those are in which run-time compilers say what code they made."""
    name = os.path.basename(path)
    return name.startswith("perf-") and name.endswith(".map") and name[5:-4].isdigit()


def build_id_hex(build_id: str | bytes | None) -> str | None:
    """Return *build_id* as lower-case hex; "" = recorded without one; None = not known."""
    if build_id is None:
        return None
    return build_id.hex() if isinstance(build_id, (bytes, bytearray)) else build_id.lower()


def find_binary(
    path: str,
    build_id: str | None,
    *,
    sysroot: str | None = None,
    debug_dirs: Sequence[str] = (),
    server: Debuginfod | None = None,
) -> Binary:
    """Find the files that name addresses of the module recorded as *path*.

    Args:
        path: as in the recording, of the traced process's file system.
        build_id: hex; "" if the module has none; None to take the file at *path* as it is.
        sysroot: root of that file system, tried before our own.
        debug_dirs: further places like /usr/lib/debug, or that hold copies of binaries.
        server: asked for debug information that is in none of these places.
    """
    path = recorded_path(path)
    refused: list[str] = []
    for candidate in _binary_candidates(path, build_id, sysroot, debug_dirs):
        try:
            headers = read_headers(candidate)
            reason = _other_build(candidate, headers.build_id, build_id)
            if reason is None:
                found = _with_debug_file(candidate, path, headers, sysroot, debug_dirs)
                return found if found.line_file is not None else _with_fetched(found, headers.build_id, server)
        except ElfError as error:
            reason = f"{candidate}: {error}"
        refused.append(reason)
    # The program is gone, replaced or unreadable; its debug file alone has every name.
    for candidate in _debug_files_by_build_id(build_id or "", sysroot, debug_dirs):
        try:
            headers = read_headers(candidate)
            if same_build(headers.build_id, build_id):
                return Binary((candidate,), candidate if headers.has_lines else None, None)
        except ElfError:
            continue
    return _with_fetched(Binary((), None, "; ".join(dict.fromkeys(refused)) or f"{path}: not found"), build_id or "", server)


def _with_fetched(found: Binary, build_id: str, server: Debuginfod | None) -> Binary:
    """Complete what was found, if anything, with a server's debug file of that build."""
    file = server.fetch(build_id) if server is not None and build_id else None
    if file is None:
        return found
    try:
        has_lines = read_headers(file).has_lines
    except ElfError:
        return found
    return Binary((file, *found.symbol_files), file if has_lines else None, None)


def same_build(actual: str, recorded: str | None) -> bool:
    """Tell whether a file's build-id is the recorded one; a recording keeps its first 20 bytes."""
    if recorded is None or actual == recorded:
        return True
    return len(recorded) == _RECORDED_BUILD_ID_HEX and actual.startswith(recorded)


def _other_build(path: str, actual: str, recorded: str | None) -> str | None:
    if same_build(actual, recorded):
        return None
    has = f"build-id {actual}" if actual else "no build-id"
    made = recorded or "a build without one"
    return f"binary {path} has {has}, the recording was made with {made}"


def _binary_candidates(
    path: str, build_id: str | None, sysroot: str | None, debug_dirs: Sequence[str]
) -> Iterator[str]:
    if sysroot:
        yield path_in_root(sysroot, path)
    yield path
    if build_id:  # copies under another name: only a build-id can tell what they are
        for directory in debug_dirs:
            if len(build_id) > 2:
                link = os.path.join(directory, ".build-id", build_id[:2], build_id[2:])
                if os.path.exists(link):
                    yield link
            copy = os.path.join(directory, os.path.basename(path))
            if os.path.isfile(copy):
                yield copy


def path_in_root(root: str, path: str) -> str:
    """Resolve *path* as a process whose root directory is *root* would.

    Absolute links of a container (/lib/libz.so -> /opt/libz.so) lead into it, not to our files.
    """
    done: list[str] = []
    todo = [part for part in reversed(path.split("/")) if part]
    links = 0
    while todo:
        part = todo.pop()
        if part == ".":
            continue
        if part == "..":
            del done[-1:]
            continue
        here = os.path.join(root, *done, part)
        try:
            target = os.readlink(here)
        except (OSError, ValueError):
            target = None
        links += target is not None
        if target is None or links > 40:
            done.append(part)
            continue
        if target.startswith("/"):
            done.clear()
        todo.extend(name for name in reversed(target.split("/")) if name)
    return os.path.join(root, *done)


def _with_debug_file(
    found: str, path: str, headers: Headers, sysroot: str | None, debug_dirs: Sequence[str]
) -> Binary:
    """Complete the verified binary *found* with its separate debug file, if it needs one."""
    if headers.has_lines:
        return Binary((found,), found, None)
    for candidate, linked_crc in _debug_candidates(found, path, headers, sysroot, debug_dirs):
        try:
            debug = read_headers(candidate)
            if headers.build_id and debug.build_id:
                belongs = headers.build_id == debug.build_id
            else:
                belongs = linked_crc is not None and _crc32(candidate) == linked_crc
            if belongs and (debug.has_lines or debug.has_symbols):
                # The debug file first: it has the local functions the binary lost.
                return Binary((candidate, found), candidate if debug.has_lines else None, None)
        except ElfError:
            continue
    return Binary((found,), None, None)


def _debug_candidates(
    found: str, path: str, headers: Headers, sysroot: str | None, debug_dirs: Sequence[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield (file that exists, CRC-32 it must have if build-ids cannot tell)."""
    for candidate in _debug_files_by_build_id(headers.build_id, sysroot, debug_dirs):
        yield candidate, None
    link = headers.debuglink
    if link is None:
        return
    name, crc = link
    home = os.path.dirname(os.path.realpath(found))
    places = [home, os.path.join(home, ".debug")]
    places += debug_dirs
    # A debug directory repeats the tree of the recorded file system.
    for directory in _debug_dirs(sysroot, debug_dirs):
        for directory_of in dict.fromkeys((os.path.dirname(path), home)):
            places.append(os.path.join(directory, directory_of.lstrip("/")))
    for place in dict.fromkeys(places):
        candidate = os.path.join(place, name)
        if _is_other_file(candidate, found):
            yield candidate, crc


def _debug_files_by_build_id(build_id: str, sysroot: str | None, debug_dirs: Sequence[str]) -> Iterator[str]:
    if len(build_id) <= 2 or not build_id.isalnum():  # it becomes a path: hex or nothing
        return
    for directory in _debug_dirs(sysroot, debug_dirs):
        stem = os.path.join(directory, ".build-id", build_id[:2], build_id[2:])
        if os.path.exists(stem + ".debug"):
            yield stem + ".debug"


def _debug_dirs(sysroot: str | None, debug_dirs: Sequence[str]) -> Iterator[str]:
    yield from debug_dirs
    if sysroot:
        yield path_in_root(sysroot, SYSTEM_DEBUG_DIR)
    yield SYSTEM_DEBUG_DIR


def _is_other_file(candidate: str, found: str) -> bool:
    try:
        status = os.stat(candidate)
        return stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(found))
    except (OSError, ValueError):
        return False


def _crc32(path: str) -> int:
    source = FileSource(path)
    try:
        crc = 0
        for offset in range(0, source.size, 1 << 20):
            crc = zlib.crc32(source.pread(1 << 20, offset), crc)
        return crc
    finally:
        source.close()
