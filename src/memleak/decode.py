"""Decode the bytes of a recording: every one of them hostile until checked.

Offsets and counts are checked before use and the work is linear in the number of bytes. What does
not stand where a reference points is left out and counted in `Decoder.incomplete`.
"""

import os
import struct
from collections.abc import Iterator
from typing import Any

from . import layout
from .arena import Arena
from .errors import NewerFormatError, RecordingError
from .livecolumns import LiveColumns
from .pystacks import PythonStacks
from .records import OTHER_LABELS, UNKNOWN_MODULE, Header, Labels, Mark, Module, Segment, Thread, parse_labels, text
from .rowtable import RowTable


def parse_header(page: bytes, origin: str) -> Header:
    """Decode and check a header.

    Raises:
        RecordingError: too short, another kind of file, or killed while it was being opened.
        NewerFormatError: a later format.
    """
    if page.startswith(b"PK\x03\x04"):
        raise RecordingError(f"{origin}: a bundle, not a recording: top, symbolize, sql, postmortem and save read it")
    if len(page) < layout.HEADER_BYTES:
        raise RecordingError(
            f"{origin}: not a recording: {len(page)} bytes, the header alone has {layout.HEADER_BYTES}"
        )
    header = Header.unpack(page)
    if header.magic == 0 and (header.version == layout.VERSION or not any(page)):
        raise RecordingError(
            f"{origin}: the recording was never completed: the process ended, or is still, opening it"
        )
    if header.magic != layout.MAGIC:
        raise RecordingError(f"{origin}: not a recording: it does not begin with MMLEAK01")
    if header.version > layout.VERSION:
        raise NewerFormatError(origin, header.version, layout.VERSION)
    if header.version == 0:
        raise RecordingError(f"{origin}: damaged: format 0 does not exist")
    return header


def unpack_directory(page: bytes) -> list[Segment]:
    """Return the entries of a segment directory that are in use."""
    step = layout.SEGMENT.bytes
    entries = (Segment(*layout.SEGMENT.format.unpack_from(page, at)) for at in range(0, len(page) - step + 1, step))
    return [segment for segment in entries if segment.kind != layout.KIND_NONE]


class Decoder:
    """The state of one decoding; `run` fills it."""

    def __init__(self, raw: bytes, origin: str) -> None:
        self.raw = raw
        self.origin = origin
        self.header = parse_header(raw[: layout.HEADER_BYTES], origin)
        self.modules: list[Module] = []
        self.threads: list[Thread] = []
        self.marks: list[Mark] = []
        self.label_sets: dict[int, Labels] = {}  # by number
        self._notes: list[str] = []
        self._arena = Arena(raw, origin)
        self._lose = self._arena.lose
        self.live = LiveColumns()
        python = PythonStacks(self._arena, self.header.python_version, self.header.python_state)
        self.rows = RowTable(self._arena, self.header, self.live, python, self._labels)

    def run(self) -> None:
        segments = self._directory()
        by_kind: dict[int, list[Segment]] = {}
        for segment in segments:
            by_kind.setdefault(segment.kind, []).append(segment)
        for kind in by_kind:
            by_kind[kind].sort(key=lambda segment: (segment.order, segment.offset))
        self._read_modules(by_kind.get(layout.KIND_MODULES, []))
        self._read_threads(by_kind.get(layout.KIND_THREADS, []))
        self._read_label_sets(by_kind.get(layout.KIND_LABEL_SETS, []))
        for segment in by_kind.get(layout.KIND_LIVE, []):
            self.live.read(self._arena, segment)
        self.rows.read(self._row_index(by_kind.get(layout.KIND_ROW_INDEX, [])), self.header.overflow_row)
        self._read_marks(by_kind.get(layout.KIND_MARKS, []))
        self._arena.seal()

    def incomplete(self) -> tuple[str, ...]:
        """Return why something is missing from this copy; looks at what has been left until then."""
        self.rows.check_rest()
        lost = {**self._arena.losses, **{what: len(refs) for what, refs in self._arena.lost.items()}}
        return (*self._notes, *(f"{count} {what}" for what, count in lost.items()))

    # -- tables ------------------------------------------------------------------------------------

    def _directory(self) -> list[Segment]:
        size = len(self.raw)
        if self.header.room_used > size:
            self._notes.append(f"the file ends after {size} of {self.header.room_used} bytes")
        segments = unpack_directory(self.raw[layout.DIRECTORY_OFFSET : layout.ROOM_OFFSET])
        least = {
            layout.KIND_MODULES: layout.MODULE.bytes,
            layout.KIND_THREADS: layout.THREAD.bytes,
            layout.KIND_STACK_INDEX: 8,
            layout.KIND_ROW_INDEX: 8,
            layout.KIND_LIVE: 8 + layout.LIVE.bytes,
            layout.KIND_CODE_INDEX: 8,
            layout.KIND_PYTHON_STACK_INDEX: 8,
            layout.KIND_MARKS: layout.MARK.bytes,
            layout.KIND_LABEL_SETS: layout.LABEL_SET.bytes,
        }
        previous_end = layout.ROOM_OFFSET
        for segment in sorted(segments, key=lambda segment: segment.offset):
            known = least.get(segment.kind, 0)
            stride = max(known, segment.record_bytes) if segment.kind in _TABLES else known
            if segment.offset < previous_end or segment.capacity * stride > segment.bytes or segment.offset % 8:
                raise RecordingError(
                    f"{self.origin}: damaged: the segment of kind {segment.kind} at {segment.offset}"
                    " overlaps another or holds more than its length"
                )
            previous_end = segment.offset + segment.bytes
        return segments

    def _table(
        self, segments: list[Segment], record: layout.Layout, what: str
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield (number from 1, fields) of each record of a table that lies in this copy."""
        number = 0
        for segment in segments:
            stride = max(segment.record_bytes, record.bytes)
            whole = min(segment.capacity, max(0, len(self.raw) - segment.offset) // stride)
            self._lose(f"places for {what} beyond the end of the file", segment.capacity - whole)
            for index in range(whole):
                yield number + index + 1, record.format.unpack_from(self.raw, segment.offset + index * stride)
            number += segment.capacity

    def _read_modules(self, segments: list[Segment]) -> None:
        for number, fields in self._table(segments, layout.MODULE, "modules"):
            state, flags, path, id_bytes, build_id, loaded, low, high, generation, *coverage, _ = fields
            if state != 2 or number > 0xFFFF:
                continue
            while len(self.modules) < number - 1:
                self.modules.append(UNKNOWN_MODULE._replace(id=len(self.modules) + 1))
            name = build_id[:id_bytes].hex()
            known = flags, low, high, loaded, generation
            self.modules.append(Module(number, self._path(path), name, *known, *coverage))

    def _read_threads(self, segments: list[Segment]) -> None:
        for number, fields in self._table(segments, layout.THREAD, "threads"):
            state, tid, first, last, samples, name, last_row, *_ = fields
            if state != 1:
                continue
            while len(self.threads) < number - 1 and number <= len(self.raw) // layout.THREAD.bytes:
                self.threads.append(Thread(len(self.threads) + 1, 0, 0, 0, 0, ""))
            if len(self.threads) == number - 1:
                self.threads.append(Thread(number, tid, first, last, samples, text(name), last_row))

    def _read_label_sets(self, segments: list[Segment]) -> None:
        for number, (ref, _) in self._table(segments, layout.LABEL_SET, "sets of labels"):
            if ref and number <= layout.LABEL_SETS:
                raw = self._arena.string(ref, "sets of labels that are not in this copy")
                self.label_sets[number] = parse_labels(raw[: layout.LABEL_BYTES])

    def _labels(self, number: int) -> Labels:
        if not number:
            return ()
        if number == layout.LABEL_OTHER:
            return OTHER_LABELS
        return self.label_sets.get(number) or (("(set of labels)", str(number)),)

    def _read_marks(self, segments: list[Segment]) -> None:
        found: dict[int, Mark] = {}
        for _, fields in self._table(segments, layout.MARK, "marks"):
            sequence, cs, level, kind, number, limit, used, rss, live, refs, values, again = fields
            if not sequence or sequence != again:
                continue
            rows = zip(struct.unpack(f"<{layout.MARK_ROWS}I", refs), struct.unpack(f"<{layout.MARK_ROWS}Q", values))
            found[sequence] = Mark(cs, level, kind, limit, used, rss, live, tuple(rows)[:number])
        self.marks = [mark for _, mark in sorted(found.items())]

    def _row_index(self, segments: list[Segment]) -> list[int]:
        """Return the words of the row index that are not empty."""
        found: list[int] = []
        for segment in segments:
            whole = min(segment.capacity, max(0, len(self.raw) - segment.offset) // 8)
            self._lose("places of the row index beyond the end of the file", segment.capacity - whole)
            words = memoryview(self.raw)[segment.offset : segment.offset + 8 * whole].cast("Q")
            found += filter(None, words)
        return found

    # -- records -----------------------------------------------------------------------------------

    def _path(self, ref: int) -> str:
        return os.fsdecode(self._arena.string(ref, "module names that are not in this copy"))


_TABLES = (layout.KIND_MODULES, layout.KIND_THREADS, layout.KIND_MARKS, layout.KIND_LABEL_SETS)
