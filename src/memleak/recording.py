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
from .decode import MISSING_ROW, Decoder, parse_header, unpack_directory
from .errors import RecordingError
from .records import UNKNOWN_MODULE, Frame, Header, LiveSample, Mark, Module, RecordedRow, Segment, Thread

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
_KEYS_PER_COPY = 128
_ROOM_STEPS = 4
_BEYOND_BYTES = 1 << 20

PathLike = Union[str, "os.PathLike[str]"]


class Recording:
    """One decoded recording. Nothing in it changes after `load` or `parse` returned it.

    Attributes:
        origin: the name for messages, usually the path.
        raw: the bytes it was decoded from; writing them to a file makes a copy of the recording.
        header: identity, clocks, knobs, counters.
        modules: the loaded objects; `modules[i].id == i + 1`.
        threads: the threads, likewise.
        rows: one for each key; the overflow row and the row of missing rows among them.
        live: the verified live samples, each (row_ref, size_bytes, weight_x1024, born_cs, thread).
        marks: what it held when it came near the limit of its memory, the oldest first.
        torn: live entries left out because they were being changed while copied, or are damaged.
        unknown_frames: those of its stacks that lie in no known module.
        incomplete: why something is missing from this copy; empty when nothing is.
        read_at_ns: CLOCK_MONOTONIC when `load` began to copy it; None for `parse`.
    """

    __slots__ = (
        "_by_ref", "header", "incomplete", "live", "marks", "modules", "origin", "raw", "read_at_ns", "rows", "threads",
        "torn", "unknown_frames",
    )  # fmt: skip

    def __init__(self, decoder: Decoder) -> None:
        """Take over what *decoder* found."""
        self.origin: str = decoder.origin
        self.read_at_ns: Optional[int] = None
        self.raw: bytes = decoder.raw
        self.header: Header = decoder.header
        self.modules: tuple[Module, ...] = tuple(decoder.modules)
        self.threads: tuple[Thread, ...] = tuple(decoder.threads)
        self.rows: tuple[RecordedRow, ...] = tuple(decoder.rows)
        self.live: tuple[LiveSample, ...] = tuple(decoder.live)
        self.marks: tuple[Mark, ...] = tuple(decoder.marks)
        self.torn: int = decoder.torn
        self.incomplete: tuple[str, ...] = tuple(decoder.incomplete)
        self.unknown_frames: frozenset[Frame] = decoder.unknown_frames
        self._by_ref: dict[int, int] = decoder.row_of_ref

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

    def row_of(self, sample: LiveSample) -> RecordedRow:
        """Return the row a live sample belongs to."""
        return self.rows[self._by_ref[sample[0]]]

    def row_index_of(self, row_ref: int) -> int:
        """Return the index in `rows` of the row that a live sample names."""
        return self._by_ref[row_ref]

    def marked_index_of(self, row_ref: int) -> Optional[int]:
        """Return the index in `rows` of a row that a mark names; None when this copy does not hold it."""
        return self._by_ref.get(row_ref)

    @property
    def samples_lost(self) -> dict[str, int]:
        """The counters that are not zero and mean that a full-mode answer lacks something."""
        return {
            name: self.header.counters[name]
            for name, makes_inexact in layout.COUNTERS
            if makes_inexact and self.header.counters[name]
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
    decoder = Decoder(bytes(buffer), origin)
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
    directory = _read_directory(read)
    copy = bytearray(directory)
    # What was copied refers to nothing beyond the room that is in use afterwards. The rest of it is
    # copied too, and may itself refer to newer records: those few steps end it in practice.
    for _ in range(_ROOM_STEPS):
        page = read(0, layout.HEADER_BYTES)
        used = min(max(parse_header(page, origin).room_used, layout.ROOM_OFFSET), size)
        if used <= layout.DIRECTORY_OFFSET + len(copy):
            break
        copy += read(layout.DIRECTORY_OFFSET + len(copy), used - layout.DIRECTORY_OFFSET - len(copy))
    # Of a plain `cp` the header is the oldest part: what was added while it went on lies beyond the room that it says.
    while layout.DIRECTORY_OFFSET + len(copy) < size:
        part = read(layout.DIRECTORY_OFFSET + len(copy), _BEYOND_BYTES)
        if part.count(0) == len(part):
            break
        copy += part
    copy[:0] = page
    for offset, part in live:
        if offset + len(part) <= len(copy):
            copy[offset : offset + len(part)] = part
    return bytes(copy)


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
    return b"".join(parts)


