"""What lies in the heaps of a running process: used, free, and which pages of the free could be given back.

Read from outside through `/proc/PID/mem` and `/proc/PID/pagemap`; nothing is stopped. Of glibc's heaps only the words
in front of the blocks are looked at (size, and whether the block before is in use), which have had this form since
long before glibc 2.28; of Python's arenas the headers of the pools. What changes meanwhile is met as a word that
cannot be: then the walk goes on behind it, or ends there and says how far it came.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Optional

from .smaps import ARENA_BYTES, FILE, HEAP, MAPPED, TRACER, Mapping

PAGE = 4096
_WINDOW = 1 << 20
_CHUNKS_MOST = 3_000_000  # steps of all heaps together: a second and a half
_PROBES_MOST = 400_000
_VARIABLES_MOST = 32 << 20
_RESYNC_BYTES = 64 << 10
_RESYNC_CHUNKS = 16
_HEADER = 48  # sizeof(struct malloc_chunk): what malloc_trim() leaves of a free block
_ARENA_MOST = 4096  # of the structures at the beginning of a thread's heap
_IS_MMAPPED = 2
_POOL_HEADER = 48
_SIZE_CLASSES = 32
_FASTBINS_AT, _FASTBINS, _TOP_AT, _BINS_AT, _BINS = 16, 10, 96, 112, 127  # in glibc's struct malloc_state
_NEXT_AT, _ARENA_BYTES_READ = 2160, 2176
_FAST_MOST = 500_000
_ARENAS_MOST = 4096


class Heaps(NamedTuple):
    """What the C library's heaps hold, in bytes; resident unless said otherwise."""

    heaps: int
    walked_bytes: int  # of their ranges
    skipped_bytes: int  # not walked: figures are scaled up for them
    resident: int
    used: int
    used_absent: int  # in use and never touched
    free: int
    fast: int  # of `free`: small blocks that were not merged yet
    trimmable: int  # of `free`: what malloc_trim(0) gives back
    blocks: int  # in use
    arenas: int = 0  # whose heaps these are: one may have several


class Mapped(NamedTuple):
    """What mappings without a name hold, in bytes; resident unless said otherwise."""

    large: int  # blocks of the C library's, each a mapping
    large_absent: int
    python_used: int
    python_idle: int
    python_pools: int
    rest: int  # of the next
    rests: tuple[tuple[int, int, int], ...]  # of each mapping that holds something else: start, end, how much of it
    complete: bool


class Memory:
    """The memory of one process, as it is; what cannot be read is zeros.

    Args:
        pid: the process.

    Raises:
        OSError: it may not be read.
    """

    def __init__(self, pid: int) -> None:
        """Open its memory and page table."""
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._pages = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._memory)
            raise

    def __enter__(self) -> "Memory":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        os.close(self._memory)
        os.close(self._pages)

    def read(self, at: int, count: int) -> bytes:
        """Return *count* bytes at an address, or as many as there are."""
        try:
            return os.pread(self._memory, count, at)
        except (OSError, OverflowError):
            return b""

    def words(self, at: int, count: int) -> Optional["memoryview[int]"]:
        """Return *count* words of eight bytes at an address; None where they are not there."""
        raw = self.read(at, 8 * count)
        return memoryview(raw).cast("Q") if len(raw) == 8 * count else None

    def present(self, start: int, end: int) -> bytes:
        """Return a byte for each page of a range: 1 if it is resident."""
        try:
            raw = os.pread(self._pages, (end - start) // PAGE * 8, start // PAGE * 8)
        except (OSError, OverflowError):
            raw = b""
        found = bytes(1 if top & 0x80 else 0 for top in raw[7::8])
        return found.ljust((end - start) // PAGE, b"\0")


class _Sums:
    """What is added up on the way."""

    def __init__(self) -> None:
        self.used = self.used_absent = self.free = self.fast = self.trimmable = self.blocks = self.walked = 0

    def add(self, other: "_Sums", scale: float) -> None:
        """Add those of one heap, scaled up for what of it was not walked."""
        for name in ("used", "free", "fast", "trimmable", "blocks"):
            setattr(self, name, getattr(self, name) + round(getattr(other, name) * scale))
        self.used_absent += other.used_absent
        self.walked += other.walked


class _Walk:
    """A walk along the blocks of one heap."""

    def __init__(self, memory: Memory, start: int, end: int, fast: set[int], sums: _Sums) -> None:
        self._memory = memory
        self._start, self._end = start, end
        self._present = memory.present(start, end)
        self._fast, self._sums = fast, sums
        self._window_at, self._window = 0, b""
        self._words: memoryview[int] = memoryview(b"").cast("Q")
        self.resident = self._present.count(1) * PAGE

    def _word(self, at: int) -> int:
        """Return the word at an address; 0 where there is none."""
        offset = at - self._window_at
        if not 0 <= offset < len(self._window) - 7:
            # On a page that was never touched no header can be.
            self._window_at = at // PAGE * PAGE
            raw = self._memory.read(self._window_at, min(_WINDOW, self._end - self._window_at))
            self._window = raw[: len(raw) & ~7]
            self._words = memoryview(self._window).cast("Q")
            offset = at - self._window_at
            if offset >= len(self._window):
                return 0
        return self._words[offset >> 3]

    def _fits(self, at: int) -> int:
        """Return the size of the block whose header is at an address; 0 if there can be none."""
        size = self._word(at + 8) & ~7
        return size if size >= 32 and size % 16 == 0 and at + size <= self._end else 0

    def _is_chain(self, at: int) -> bool:
        """Tell whether blocks follow one another from an address on."""
        for _ in range(_RESYNC_CHUNKS):
            size = self._fits(at)
            if not size:
                return False
            at += size
            if at >= self._end - 32:
                return True
            if not self._word(at + 8) & 1 and self._word(at) != size:  # a free block's size stands behind it, too
                return False
        return True

    def first(self, at: int, most: int) -> int:
        """Return where the first block at or behind an address begins; 0 if none is found."""
        return next((each for each in range(at, min(at + most, self._end - 32), 16) if self._is_chain(each)), 0)

    def run(self, at: int, is_main: bool, steps: int) -> int:
        """Add up blocks from *at* on. Returns how many steps are left."""
        begun = at
        sums, end = self._sums, self._end
        free_from = 0  # where a run of free blocks began
        while steps > 0 and at < end - 16:
            size = self._word(at + 8) & ~7
            if size < 32 or size % 16 or at + size > end:
                self._close(free_from, at)
                free_from = 0
                if size in (0, 16) and end - at <= 64:  # the end of a heap that another one follows
                    break
                again = self.first(at + 16, _RESYNC_BYTES)
                if not again:
                    break
                sums.walked -= again - at
                steps -= (again - at) // 16  # so many places were tried
                at = again
                continue
            steps -= 1
            behind = at + size
            if behind >= end:  # the last one is free, and given back by other means
                self._close(free_from, at)
                free_from = 0
                self._top(at, end, is_main)
                at = end
                break
            is_fast = at in self._fast
            if is_fast or not self._word(behind + 8) & 1:
                if is_fast:
                    sums.fast += size
                free_from = free_from or at
            else:
                if free_from:
                    self._close(free_from, at)
                    free_from = 0
                sums.blocks += 1
                sums.used += size
                if size >= PAGE:
                    absent = self._absent(at + 16, behind)
                    sums.used -= absent
                    sums.used_absent += absent
            at = behind
        self._close(free_from, at)
        sums.walked += at - begun
        return steps

    def _absent(self, start: int, end: int) -> int:
        """Return the bytes of whole pages in a range that are not resident."""
        first, last = -(-start // PAGE), end // PAGE
        if last <= first:
            return 0
        base = self._start // PAGE
        return (last - first - self._present.count(1, first - base, last - base)) * PAGE

    def _close(self, start: int, end: int, keep_whole: bool = False) -> None:
        """Add a run of free blocks."""
        if not start or end <= start:
            return
        sums = self._sums
        if end - start < PAGE:
            sums.free += end - start
            return
        sums.free += end - start - self._absent(start, end)
        first, last = -(-(start + _HEADER) // PAGE), end // PAGE
        if last > first and not keep_whole:
            base = self._start // PAGE
            sums.trimmable += self._present.count(1, first - base, last - base) * PAGE

    def _top(self, start: int, end: int, is_main: bool) -> None:
        """Add the block at the end. Of the first heap it can be given back; malloc_trim() leaves those of others."""
        self._close(start, end, not is_main)


def walk_heaps(memory: Memory, mappings: Sequence[Mapping]) -> Optional[Heaps]:
    """Walk the C library's heaps; None where there are none, or they are not glibc's."""
    parts = [part for one in mappings if one.kind == HEAP for part in _parts(memory, one)]
    fast = fast_blocks(memory, mappings, _arenas(memory, parts))
    total = _Sums()
    resident = skipped = 0
    steps = _CHUNKS_MOST
    for number, (start, end, is_main) in enumerate(parts):
        sums = _Sums()
        walk = _Walk(memory, start, end, fast, sums)
        first = walk.first(start, 16) if is_main else walk.first(start + 32, _ARENA_MOST)
        if not first:
            continue
        share = steps // (len(parts) - number)
        steps -= share - walk.run(first, is_main, share)
        sums.used += first - start  # its own structures
        sums.walked += first - start
        resident += walk.resident
        skipped += end - start - sums.walked
        # What was not walked is taken to be as the rest of its heap is.
        known = sums.used + sums.free
        scale = max(1.0, walk.resident / known) if known and sums.walked < end - start - PAGE else 1.0
        total.add(sums, scale)
    if not total.walked:
        return None
    return Heaps(
        len(parts), total.walked, skipped, resident, total.used, total.used_absent, total.free, total.fast,
        total.trimmable, total.blocks, len(_arenas(memory, parts)) + any(is_main for _, _, is_main in parts),
    )  # fmt: skip


def _arenas(memory: Memory, parts: Sequence[tuple[int, int, bool]]) -> set[int]:
    """Return where the structures of arenas are, but that of the first one."""
    return {head[0] for start, _, is_main in parts if not is_main for head in [memory.words(start, 1)] if head}


def _parts(memory: Memory, one: Mapping) -> list[tuple[int, int, bool]]:
    """Return the heaps in a mapping: start, end, and whether it is the first one, which the program's break ends."""
    if one.path == "[heap]":
        return [(one.start, one.end, True)]
    found = []
    for start in range(one.start, one.end, ARENA_BYTES):
        head = memory.words(start, 4)  # arena, the heap before, size, size that was made accessible
        end = min(start + ARENA_BYTES, one.end)
        if head and head[0] and head[2] % PAGE == 0 and PAGE <= head[2] <= head[3] <= ARENA_BYTES:
            found.append((start, min(end, start + head[2]), False))
    return found


def fast_blocks(memory: Memory, mappings: Sequence[Mapping], others: set[int]) -> set[int]:
    """Return where the free blocks begin that are kept as they are: the block behind one does not call it free.

    Args:
        memory: of the process.
        mappings: all of it.
        others: where the structures of arenas are, but that of the first one.
    """
    arenas = set(others)
    main = _main_arena(memory, mappings, arenas)
    if main:
        arenas.add(main)
    found: set[int] = set()
    for arena in sorted(arenas):
        lists = memory.words(arena + _FASTBINS_AT, _FASTBINS)
        for at in lists or ():
            while at and at % 16 == 0 and at not in found and len(found) < _FAST_MOST:
                link = memory.words(at + 16, 1)
                if link is None:
                    break
                found.add(at)
                at = link[0] ^ (at + 16) >> 12  # glibc 2.32 and later
    return found


def _main_arena(memory: Memory, mappings: Sequence[Mapping], arenas: set[int]) -> int:
    """Return where the first heap's structure is; 0 if it is not found."""
    heap = next((one for one in mappings if one.path == "[heap]"), None)
    starts = [one.start for one in mappings]

    def is_main(at: int) -> bool:
        top = memory.words(at + _TOP_AT, 1)
        if heap is None or not top or not heap.start <= top[0] < heap.end:
            return False
        size = memory.words(top[0] + 8, 1)
        return size is not None and top[0] + (size[0] & ~7) == heap.end

    # They form a ring.
    for arena in sorted(arenas)[:1]:
        at = arena
        for _ in range(_ARENAS_MOST):
            link = memory.words(at + _NEXT_AT, 1)
            at = link[0] if link else 0
            if not at or at == arena:
                break
            if at not in arenas and is_main(at):
                return at
    # The lists of free blocks begin and end in it, so some block in the heap points there.
    if heap is None:
        return 0
    libraries = {one.start for one in mappings if one.owner and "libc" in os.path.basename(one.owner)}
    seen = set()
    for start in range(heap.start, heap.end, _WINDOW):
        words = memory.words(start, min(_WINDOW, heap.end - start) // 8)
        for value in words or ():
            if value in seen or value % 16 or not value:
                continue
            index = bisect_right(starts, value) - 1
            if index >= 0 and starts[index] in libraries and value < mappings[index].end:
                seen.add(value)
                for number in range(_BINS):
                    if is_main(value - _TOP_AT - 16 * number):
                        return value - _TOP_AT - 16 * number
        if start - heap.start > 16 << 20:
            break
    return 0


def look_into(memory: Memory, mappings: Sequence[Mapping], pool_bytes: int) -> Mapped:
    """Look for large blocks and Python's pools in mappings whose purpose is not known.

    Args:
        memory: of the process.
        mappings: all of it; those of kind MAPPED are looked into.
        pool_bytes: of a pool; 0 when there is no Python.
    """
    large = large_absent = used = idle = pools = 0
    rests = []
    probes = _PROBES_MOST
    for start, end in _runs(mappings):
        present = memory.present(start, end)
        at = start
        rest_from, rest = start, 0  # pages of something else, in a row
        while at < end and probes > 0:
            index = (at - start) // PAGE
            if not present[index]:
                at = start + _next_present(present, index) * PAGE
                continue
            probes -= 1
            raw = memory.read(at, _POOL_HEADER)
            size = _large_block(raw, end - at)
            block = 0 if size or not pool_bytes or at % pool_bytes else _pool(raw, pool_bytes)
            if not size and not block:
                if not rest:
                    rest_from = at
                rest += PAGE
                at += PAGE
                continue
            if rest:
                rests.append((rest_from, at, rest))
                rest = 0
            here = _count(present, start, at, at + (size or pool_bytes))
            if size:
                large += here
                large_absent += size - here
            else:
                used += min(here, block)
                idle += here - min(here, block)
                pools += 1
            at += size or pool_bytes
        if at < end:
            rest += _count(present, start, at, end)
        if rest:
            rests.append((rest_from, end, rest))
    rest = sum(each for *_, each in rests)
    return Mapped(large, large_absent, used, idle, pools, rest, tuple(rests), probes > 0)


def _runs(mappings: Sequence[Mapping]) -> list[tuple[int, int]]:
    """Return the ranges of mappings of kind MAPPED, joined where one begins at another's end.

    A block's mapping may be taken apart by what the program asks the kernel for some of its pages.
    """
    found: list[tuple[int, int]] = []
    for one in mappings:
        if one.kind != MAPPED or "w" not in one.access:
            continue
        if found and found[-1][1] == one.start:
            found[-1] = found[-1][0], one.end
        else:
            found.append((one.start, one.end))
    return found


def owners_of(memory: Memory, mappings: Sequence[Mapping], ranges: Sequence[tuple[int, int, int]]) -> list[str]:
    """Return for each range the path of the object whose variables lead into it most often; "" where none do.

    An allocator keeps the addresses of its memory somewhere; the outermost of them in a variable of its own.
    """
    ordered = sorted(range(len(ranges)), key=lambda index: ranges[index][0])
    starts = [ranges[index][0] for index in ordered]
    votes: list[dict[str, int]] = [{} for _ in ranges]
    left = _VARIABLES_MOST
    lowest, highest = min(starts, default=0), max((end for _, end, _ in ranges), default=0)
    for one in mappings:
        if not one.owner or "w" not in one.access or not one.anonymous or one.kind not in (FILE, TRACER):
            continue
        size = min(one.bytes, left)
        left -= size
        present = memory.present(one.start, one.start + size)
        for page, is_there in enumerate(present):
            if not is_there:
                continue
            for value in memory.words(one.start + page * PAGE, PAGE // 8) or ():
                if lowest <= value < highest:
                    at = ordered[bisect_right(starts, value) - 1]
                    if value < ranges[at][1]:
                        votes[at][one.owner] = votes[at].get(one.owner, 0) + 1
    return [max(sorted(each), key=lambda path, each=each: each[path]) if each else "" for each in votes]  # type: ignore[misc]


def _next_present(present: bytes, index: int) -> int:
    found = present.find(1, index)
    return len(present) if found < 0 else found


def _count(present: bytes, start: int, low: int, high: int) -> int:
    return present.count(1, (low - start) // PAGE, (high - start) // PAGE) * PAGE


def _large_block(raw: bytes, most: int) -> int:
    """Return the length of the block of glibc's that is a mapping by itself; 0 if this is no header of one."""
    if len(raw) < 16 or any(raw[:8]):
        return 0
    word = int.from_bytes(raw[8:16], "little")
    size = word & ~7
    return size if word & 7 == _IS_MMAPPED and size % PAGE == 0 and PAGE <= size <= most else 0


def _pool(raw: bytes, pool_bytes: int) -> int:
    """Return the bytes in use of the pool that begins with this header, 1 at least; 0 if it is none."""
    if len(raw) < _POOL_HEADER:
        return 0
    count = int.from_bytes(raw[0:4], "little")
    _, kind, offset, most = array("I", raw[32:48])
    if kind >= _SIZE_CLASSES:
        return 0
    size = (kind + 1) * 16
    holds = (pool_bytes - _POOL_HEADER) // size
    fits = most == pool_bytes - size and _POOL_HEADER <= offset <= most + size and count <= holds
    return max(1, count * size) if fits else 0
