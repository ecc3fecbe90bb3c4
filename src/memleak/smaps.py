"""What of a running process is resident, mapping by mapping: `/proc/PID/smaps`, and what each mapping is for."""

import contextlib
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from .names import LIBRARY

HEAP, MAPPED, FILE, SHARED, STACK, TRACER, KERNEL = "heap", "mapped", "file", "shared", "stack", "tracer", "kernel"
ARENA_BYTES = 64 << 20  # glibc's heaps of threads begin at multiples of it
_LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)")
_SHARED = ("/dev/shm/", "/memfd:", "/SYSV", "/dev/zero")
_SWITCHES = {b"Rss", b"Anonymous", b"Swap", b"VmFlags"}


class Mapping(NamedTuple):
    """One mapping. `kind` says what it is for: one of the constants above, MAPPED where only its contents tell."""

    start: int
    end: int
    access: str  # rw-p and so on
    path: str
    rss: int
    anonymous: int
    swapped: int
    flags: tuple[str, ...]
    kind: str = ""
    owner: str = ""  # of memory that belongs to a file's mapping: its path

    @property
    def bytes(self) -> int:
        """The length of its range."""
        return self.end - self.start


def look(pid: int) -> list[Mapping]:
    """Return the mappings of process *pid*, each with its kind. Raises OSError where that may not be read."""
    with open(f"/proc/{pid}/smaps", "rb") as stream:
        found = list(parse(stream))
    return classify(found, stack_pointers(pid))


def parse(lines: Iterable[bytes]) -> Iterator[Mapping]:
    """Yield the mappings that the lines of an smaps file describe; lines that are not understood are passed over."""
    head: Optional[tuple[int, int, str, str]] = None
    numbers: dict[bytes, int] = {}
    flags: tuple[str, ...] = ()
    for line in lines:
        begins = _LINE.match(line)
        if begins:
            if head:
                yield _mapping(head, numbers, flags)
            path = os.fsdecode(begins[7].rstrip(b"\n"))
            head = int(begins[1], 16), int(begins[2], 16), begins[3].decode("ascii", "replace"), path
            numbers, flags = {}, ()
            continue
        name, _, rest = line.partition(b":")
        if name == b"VmFlags":
            flags = tuple(rest.decode("ascii", "replace").split())
        elif name in _SWITCHES:
            with contextlib.suppress(ValueError, IndexError):
                numbers[name] = int(rest.split()[0]) << 10
    if head:
        yield _mapping(head, numbers, flags)


def _mapping(head: tuple[int, int, str, str], numbers: dict[bytes, int], flags: tuple[str, ...]) -> Mapping:
    rss, anonymous, swapped = (numbers.get(name, 0) for name in (b"Rss", b"Anonymous", b"Swap"))
    return Mapping(*head, rss, anonymous, swapped, flags)


def classify(mappings: list[Mapping], stacks: Iterable[int] = ()) -> list[Mapping]:
    """Return the mappings with their kinds.

    Args:
        mappings: all of one process, in order of address.
        stacks: for each thread an address in its stack.
    """
    pointers = sorted(stacks)
    found: list[Mapping] = []
    for index, one in enumerate(mappings):
        before = found[-1] if found and found[-1].end == one.start else None
        after = mappings[index + 1] if index + 1 < len(mappings) and mappings[index + 1].start == one.end else None
        kind, owner = _kind(one, before, after)
        if (
            kind == MAPPED
            and one.access.startswith("rw")
            and bisect_left(pointers, one.start) < bisect_left(pointers, one.end)
        ):
            kind = STACK
        found.append(one._replace(kind=kind, owner=owner))
    return found


def _kind(one: Mapping, before: Optional[Mapping], after: Optional[Mapping]) -> tuple[str, str]:
    path = one.path
    if path.startswith("/"):
        plain = path[: -len(" (deleted)")] if path.endswith(" (deleted)") else path
        if os.path.basename(plain) == LIBRARY or plain.endswith(".mlrec"):
            return TRACER, plain
        return (SHARED if path.startswith(_SHARED) else FILE), plain
    if path == "[heap]" or path.startswith("[anon: glibc: malloc"):
        return HEAP, ""
    if path.startswith("[stack") or path == "[anon: glibc: thread stack]":
        return STACK, ""
    if path and not path.startswith("[anon"):
        return KERNEL, ""
    # A library's variables that are zero at first follow those that the file holds. Ours are several mappings.
    if before and "w" in before.access + one.access and before.owner:
        is_first = before.path.startswith("/") and "w" in before.access
        if (is_first or before.kind == TRACER) and before.kind in (FILE, TRACER) and not before.path.endswith(".mlrec"):
            return before.kind, before.owner
    if one.access.startswith("rw") and one.start % ARENA_BYTES == 0 and _fills_arena(one, after):
        return HEAP, ""
    return MAPPED, ""


def _fills_arena(one: Mapping, after: Optional[Mapping]) -> bool:
    rest = -one.end % ARENA_BYTES
    return rest == 0 or (after is not None and after.access.startswith("---") and after.bytes >= rest)


def stack_pointers(pid: int) -> list[int]:
    """Return the stack pointers of the threads that are not running just now, as far as that is permitted."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(tasks := f"/proc/{pid}/task"):
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"{tasks}/{task}/syscall") as stream:
                found.append(int(stream.read().split()[-2], 16))
    return found
