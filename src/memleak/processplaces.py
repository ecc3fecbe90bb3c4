"""What addresses in a running process stand for: `/proc/PID/maps` says which file is mapped there."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from . import locate
from .errors import QueryError, TargetError
from .symbolize.elf import ElfError
from .symbolize.headers import Load, read_headers, read_loads
from .tokens import Place

_ADDRESS = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16})\Z")
_MAX_ADDRESS = 2**64 - 1


class Mapping(NamedTuple):
    """One line of the maps."""

    start: int
    end: int
    executable: bool
    offset: int
    device: int
    inode: int
    path: str


class ProcessPlaces:
    """The places of code that addresses in a process stand for, as it is now.

    Args:
        pid: the process.

    Raises:
        TargetError: there is no such process, or its maps may not be read.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._root = locate.root_of(pid) or ""
        self._files: dict[str, tuple[str, list[Load]]] = {}  # by path: build-id, what is mapped of it
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                found = [parsed(line) for line in maps]
        except FileNotFoundError:
            raise TargetError(f"no process {pid}") from None
        except OSError as error:
            raise TargetError(f"process {pid}: /proc/{pid}/maps cannot be read: {error.strerror}") from error
        self._mappings: SortedDict = SortedDict((one.start, one) for one in found if one is not None)

    def place(self, token: str) -> Place:
        """Return the place of an address, which is that of an instruction itself.

        Raises:
            QueryError: it is no address, nothing is mapped there, or what is mapped is not to be had any more.
        """
        given = _ADDRESS.match(token)
        if given is None:
            raise QueryError(f"{token!r} is no address in a process: they read 0x7f0012345678")
        address = int(given[1], 16)
        index = self._mappings.bisect_right(address) - 1
        mapping: Optional[Mapping] = self._mappings.peekitem(index)[1] if index >= 0 else None
        if mapping is None or address >= mapping.end:
            raise QueryError(f"{token}: process {self._pid} has nothing mapped there")
        if mapping.path == "[vdso]":
            from .symbolize.elf import own_vdso

            with own_vdso() as image:  # the same for all processes of one kernel
                return Place("[vdso]", image.build_id, address - mapping.start, True)
        if not mapping.path.startswith("/"):
            return Place(self._perf_map(), None, address, True)
        build_id, loads = self._file(mapping)
        offset = address - mapping.start + mapping.offset
        for load in loads:
            if load.offset <= offset < load.offset + load.size:
                return Place(mapping.path, build_id, (offset - load.offset + load.address) & _MAX_ADDRESS, True)
        raise QueryError(f"{token}: no part of {mapping.path} that is run is mapped there")

    def _perf_map(self) -> str:
        """Return the path of what a run-time compiler says of its code, whether it is there or not."""
        inside = self._pid
        try:
            with open(f"/proc/{self._pid}/status", "rb") as status:
                inside = int(next(line.split()[-1] for line in status if line.startswith(b"NSpid:")))
        except (OSError, StopIteration, ValueError):
            pass
        return f"/tmp/perf-{inside}.map"

    def _file(self, mapping: Mapping) -> tuple[str, list[Load]]:
        if mapping.path not in self._files:
            path = self._root + mapping.path
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) != (mapping.device, mapping.inode):
                    raise ElfError("it was replaced since the process mapped it")
                self._files[mapping.path] = read_headers(path).build_id, read_loads(path)
            except OSError as error:
                raise QueryError(f"{path}: {error.strerror}") from error
            except ElfError as error:
                raise QueryError(f"{path}: {error}") from error
        return self._files[mapping.path]


def parsed(line: bytes) -> Optional[Mapping]:
    r"""Return the mapping of a line; None if it is none.

    A newline in a path is written as \012 by the kernel; a file that was deleted has " (deleted)" behind its path.
    """
    fields = line.rstrip(b"\n").split(None, 5)
    if len(fields) < 5 or b"-" not in fields[0] or b":" not in fields[3]:
        return None
    try:
        start, end = (int(part, 16) for part in fields[0].split(b"-"))
        major, minor = (int(part, 16) for part in fields[3].split(b":"))
        path = os.fsdecode(fields[5]).replace("\\012", "\n") if len(fields) == 6 else ""
        device = os.makedev(major, minor)
        return Mapping(start, end, b"x" in fields[1], int(fields[2], 16), device, int(fields[4]), path)
    except ValueError:
        return None
