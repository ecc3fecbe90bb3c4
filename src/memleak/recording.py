"""Read a recording: of a live process, of a dead one, or a copy, all with the same code.

`load` copies the used part of a file into memory once and `parse` decodes the copy; nothing is
read from the file afterwards. Every byte is treated as hostile: offsets and counts are checked,
the work is linear in the size of the file, and a file that cannot be read is refused with
`RecordingError`. A truncated file is read as far as it goes and says so in `Recording.incomplete`.
"""

import gc
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from typing import Optional, Union

from . import layout
from .aside import aside
from .decode import Decoder, parse_header, unpack_directory
from .errors import RecordingError
from .once import once
from .records import (
    UNKNOWN_MODULE,
    Frame,
    Gauge,
    Header,
    Labels,
    LedgerEntry,
    LiveSample,
    Mark,
    Module,
    Pins,
    Pool,
    PoolRegion,
    RawMismatch,
    RecordedRow,
    Segment,
    Thread,
)
from .rowtable import MISSING_ROW, RowTable

__all__ = [
    "MISSING_ROW",
    "PathLike",
    "Recording",
    "load",
    "load_copies",
    "load_header",
    "open_regular",
    "parse",
    "parse_header",
]

# Takes an offset and a number of bytes, and returns as many as there are, up to that number.
Reader = Callable[[int, int], bytes]

FILE_BYTES_MOST = 4 << 30
_KEYS_PER_COPY = 512  # and 16 KiB of entries: a few microseconds, in which few samples come or go
_ROOM_STEPS = 4
_BEYOND_BYTES = 1 << 20

PathLike = Union[str, "os.PathLike[str]"]


class Recording:
    """One decoded recording. Nothing in it changes after `load` or `parse` returned it; much is worked out when asked for.

    Attributes:
        origin: the name for messages, usually the path.
        raw: the bytes it was decoded from; writing them to a file makes a copy of the recording.
        header: identity, clocks, knobs, counters.
        modules: the loaded objects; `modules[i].id == i + 1`.
        threads: the threads, likewise.
        rows: one for each key; the overflow row and the row of missing rows among them.
        live: the verified live samples, each (row_ref, size_bytes, weight_x1024, born_cs, thread).
        marks: what it held when it came near the limit of its memory, the oldest first.
        calls: for each set of labels, how many entries of a label with `outcome` ended under it; those with none left out.
        pools: the allocators that the program has told of, by number.
        pool_regions: the memory that these hand out, by number.
        pool_samples: of each live sample of a pool (row_ref, size_bytes, weight_x1024, region; 0: in none).
        mismatches: blocks that were freed another way than they were allocated, and suspects.
        gauges: counts of the program's business, by name.
        ledger: looks at what was resident and what the allocators held, the oldest first.
        pins: who held pages of heaps in which little else was live; None when it was never looked at.
        table: the same rows, by column.
        torn: live entries left out because they were being changed while copied, or are damaged.
        unknown_frames: those of its stacks that lie in no known module.
        incomplete: why something is missing from this copy; empty when nothing is.
        read_at_ns: CLOCK_MONOTONIC when `load` began to copy it; None for `parse`.
    """

    def __init__(self, decoder: Decoder) -> None:
        """Take over what *decoder* found."""
        self.origin: str = decoder.origin
        self.read_at_ns: Optional[int] = None
        self.raw: bytes = decoder.raw
        self.header: Header = decoder.header
        self.modules: tuple[Module, ...] = tuple(decoder.modules)
        self.threads: tuple[Thread, ...] = tuple(decoder.threads)
        self.marks: tuple[Mark, ...] = tuple(decoder.marks)
        self.calls: dict[Labels, int] = decoder.calls
        self.pools: dict[int, Pool] = decoder.pools
        self.pool_regions: dict[int, PoolRegion] = decoder.pool_regions
        self.gauges: tuple[Gauge, ...] = tuple(decoder.gauges)
        self.ledger: tuple[LedgerEntry, ...] = tuple(decoder.ledger)
        self.pins: Optional[Pins] = decoder.pins
        self.torn: int = decoder.live.torn
        self.table: RowTable = decoder.rows
        self._live = decoder.live
        self._decoder = decoder
        self.pool_samples: tuple[tuple[int, int, int, int], ...] = tuple(decoder.live.of_pools)
        self.mismatches: tuple[RawMismatch, ...] = tuple(decoder.mismatches)

    @once
    @aside
    def rows(self) -> tuple[RecordedRow, ...]:
        """Every row. One of them is had sooner by `row`."""
        return tuple(map(self.table.row, range(len(self.table))))

    @once
    @aside
    def live(self) -> tuple[LiveSample, ...]:
        """The verified live samples."""
        return self._live.samples()

    @once
    @aside
    def incomplete(self) -> tuple[str, ...]:
        """Why something is missing from this copy."""
        return self._decoder.incomplete()

    @once
    @aside
    def unknown_frames(self) -> frozenset[Frame]:
        """Frames of its stacks that lie in no known module."""
        return self.table.unknown_frames()

    @once
    @aside
    def est_bytes(self) -> list[int]:
        """For each row its estimated live bytes, in 1/1024."""
        return self.table.sums(sized=True, weighted=True)

    @once
    @aside
    def est_counts(self) -> list[int]:
        """For each row its estimated live allocations, in 1/1024."""
        return self.table.sums(weighted=True)

    @once
    @aside
    def live_bytes(self) -> list[int]:
        """For each row the bytes of its live samples."""
        return self.table.sums(sized=True)

    @once
    @aside
    def live_counts(self) -> list[int]:
        """For each row the number of its live samples."""
        return self.table.sums()

    @property
    def live_samples(self) -> int:
        """The number of verified live samples."""
        return len(self._live)

    @aside
    def row(self, index: int) -> RecordedRow:
        """Return a row by its index in `rows`."""
        return self.table.row(index)

    @property
    def is_thinned(self) -> bool:
        """Whether live samples were merged: some stand for others that have not been freed."""
        return self.header.counters[layout.MERGED] > 0

    def taken(self, row: RecordedRow) -> int:
        """Return how many samples of a row were ever taken, without those that others stand for."""
        return row.live.samples + row.freed_samples if self.is_thinned else row.alloc_samples

    def module(self, module_id: int) -> Module:
        """Return a module by the number a frame has; an unknown number gives a module without path."""
        if 0 < module_id <= len(self.modules):
            return self.modules[module_id - 1]
        return UNKNOWN_MODULE

    def thread(self, thread_id: int) -> Optional[Thread]:
        """Return a thread by the number a live sample has; None when it was not recorded."""
        if 0 < thread_id <= len(self.threads):
            return self.threads[thread_id - 1]
        return None

    @aside
    def row_of(self, sample: LiveSample) -> RecordedRow:
        """Return the row a live sample belongs to."""
        return self.table.row(self.table.index_of(sample[0]))

    def row_index_of(self, row_ref: int) -> int:
        """Return the index in `rows` of the row that a live sample names."""
        return self.table.index_of(row_ref)

    def marked_index_of(self, row_ref: int) -> Optional[int]:
        """Return the index in `rows` of a row that a mark names; None when this copy does not hold it."""
        return self.table.find(row_ref)

    @property
    def total_est_bytes(self) -> float:
        """The estimated live bytes of all rows; pools hand out memory that is in other rows, and are not added."""
        return sum([held for index, held in enumerate(self.est_bytes) if self.table.in_totals(index)]) / 1024

    @property
    def samples_lost(self) -> dict[str, int]:
        """The counters that are not zero and mean that a full-mode answer lacks something."""
        return {
            name: self.header.counters[name]
            for name, makes_inexact in layout.COUNTERS
            if makes_inexact and name != layout.MERGED and self.header.counters[name]
        }


def open_regular(path: PathLike, flags: int = os.O_RDONLY) -> int:
    """Open a regular file and return its descriptor; never blocks on a fifo or device.

    Raises:
        RecordingError: not a regular file.
        OSError: it cannot be opened.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise RecordingError(f"{os.fspath(path)}: {kind}, so not a recording")
    return fd


def begins_with(path: PathLike, magic: bytes) -> bool:
    """Tell whether a regular file begins with *magic*; False when it cannot be read."""
    try:
        fd = open_regular(path)
    except (OSError, ValueError, RecordingError):
        return False
    try:
        return os.read(fd, len(magic)) == magic
    except OSError:
        return False
    finally:
        os.close(fd)


def load(path: PathLike, *, origin: Optional[str] = None) -> Recording:
    """Read the recording at *path*, which may be in use by a live process.

    Args:
        path: a regular file, at most 4 GiB; symbolic links are followed.
        origin: how messages name it; the path when not given.

    Raises:
        RecordingError: it cannot be opened, is not a recording, or is damaged.
        NewerFormatError: it has a later format.
    """
    name = os.fspath(path) if origin is None else origin
    try:
        fd = open_regular(path)
        try:
            read = partial(_read, fd)
            at_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            raw = _copy(read, read, os.fstat(fd).st_size, name)
        finally:
            os.close(fd)
    except OSError as error:
        raise RecordingError(f"{name}: cannot be read: {error.strerror or error}") from error
    found = parse(raw, name)
    found.read_at_ns = at_ns
    return found


def load_copies(earlier: int, later: int, origin: str) -> Recording:
    """Read a recording from two copies, made one after the other while it may have been changing.

    Args:
        earlier: descriptor of an open file; live samples are read from it.
        later: the same, for the rest.
        origin: how messages name it.

    Raises:
        RecordingError: not a recording, or damaged.
        NewerFormatError: it has a later format.
    """
    size = os.fstat(later).st_size
    return parse(_copy(partial(_read, earlier), partial(_read, later), size, origin), origin)


def load_header(path: PathLike, *, origin: Optional[str] = None) -> Header:
    """Read only the header of the recording at *path*.

    Raises:
        RecordingError: as for `load`.
    """
    name = os.fspath(path) if origin is None else origin
    try:
        fd = open_regular(path)
        try:
            page = os.pread(fd, layout.HEADER_BYTES, 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise RecordingError(f"{name}: cannot be read: {error.strerror or error}") from error
    return parse_header(page, name)


def parse(buffer: bytes, origin: str = "<bytes>") -> Recording:
    """Decode a recording from a copy of its bytes.

    Raises:
        RecordingError: not a recording, or damaged.
        NewerFormatError: a later format.
    """
    decoder = Decoder(buffer if isinstance(buffer, bytes) else bytes(buffer), origin)
    # What is made here is kept: looking for cycles in it meanwhile takes a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        decoder.run()
    finally:
        if collecting:
            gc.enable()
    return Recording(decoder)


def _copy(read_first: Reader, read: Reader, size: int, origin: str) -> bytes:
    """Copy the used part of a recording that may be changing.

    Live samples are read first, through a reader of their own: whatever they refer to was complete before,
    so the rest of the copy holds it.
    """
    if size > FILE_BYTES_MOST:
        raise RecordingError(f"{origin}: {size} bytes, more than the {FILE_BYTES_MOST} a recording can have")
    parse_header(read_first(0, layout.HEADER_BYTES), origin)
    live: list[tuple[int, bytes]] = []
    wanted = 0
    for segment in unpack_directory(_read_directory(read_first)):
        ends = segment.offset + segment.bytes
        if segment.kind == layout.KIND_LIVE and layout.ROOM_OFFSET <= segment.offset <= ends <= size:
            wanted += segment.bytes
            if wanted > size or segment.capacity * (8 + layout.LIVE.bytes) > segment.bytes:
                break  # they overlap, or hold more than their length: `parse` refuses that
            live += _read_live(read_first, segment)
    page = read(0, layout.HEADER_BYTES)
    parts: list[bytes] = []
    ends = 0
    # What was copied refers to nothing beyond the room that is in use afterwards. The rest of it is
    # copied too, and may itself refer to newer records: those few steps end it in practice.
    for _ in range(_ROOM_STEPS):
        used = min(max(parse_header(page, origin).room_used, layout.ROOM_OFFSET), size)
        if used <= ends:
            break
        parts.append(read(ends, used - ends))  # the directory before what it leads to
        ends += len(parts[-1])
        page = read(0, layout.HEADER_BYTES)
    copy = _joined([*parts, *_beyond(read, ends, size)])
    newer = [(0, page), *live]
    if all(offset + len(part) > len(copy) or copy[offset : offset + len(part)] == part for offset, part in newer):
        return copy  # as it is once the process has ended
    changed = bytearray(copy)
    for offset, part in newer:
        if offset + len(part) <= len(changed):
            changed[offset : offset + len(part)] = part
    return bytes(changed)


def _beyond(read: Reader, begins: int, size: int) -> list[bytes]:
    """Copy what lies beyond the room that a header says is in use.

    Of a plain `cp` the header is the oldest part: what was added while it went on lies there.
    """
    parts = []
    while begins < size:
        part = read(begins, _BEYOND_BYTES)
        if part.count(0) == len(part):
            break
        parts.append(part)
        begins += len(part)
    return parts


def _joined(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_live(read: Reader, segment: Segment) -> list[tuple[int, bytes]]:
    """Copy a live segment in small steps, keys before their entries, so that few change in between."""
    parts = []
    entry_bytes = layout.LIVE.bytes
    entries = segment.offset + 8 * segment.capacity
    for first in range(0, segment.capacity, _KEYS_PER_COPY):
        number = min(_KEYS_PER_COPY, segment.capacity - first)
        keys = read(segment.offset + 8 * first, 8 * number)
        parts.append((segment.offset + 8 * first, keys))
        if keys.count(0) != len(keys):
            at = entries + first * entry_bytes
            parts.append((at, read(at, number * entry_bytes)))
    return parts


def _read_directory(read: Reader) -> bytes:
    return read(layout.DIRECTORY_OFFSET, layout.DIRECTORY_ENTRIES * layout.SEGMENT.bytes)


def _read(fd: int, offset: int, count: int) -> bytes:
    parts = []
    while count > 0:
        part = os.pread(fd, min(count, 64 << 20), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        count -= len(part)
    return _joined(parts)
