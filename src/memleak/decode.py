"""Decode the bytes of a recording: every one of them hostile until checked.

Offsets and counts are checked before use and the work is linear in the number of bytes. What does
not stand where a reference points is left out and counted in `Decoder.incomplete`.
"""

import os
import struct
from collections.abc import Iterator
from typing import Any, Optional

from . import layout
from .arena import Arena
from .errors import NewerFormatError, RecordingError
from .livecolumns import LiveColumns
from .names import is_gauge_name
from .pystacks import PythonStacks, without_pool
from .records import (
    OTHER_LABELS,
    UNKNOWN_MODULE,
    Gauge,
    Header,
    Labels,
    LedgerEntry,
    Mark,
    Module,
    Pins,
    Pool,
    PoolRegion,
    RawMismatch,
    Segment,
    Thread,
    decode_history,
    frame_of,
    gauge_value,
    parse_labels,
    text,
)
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
        self.gauges: list[Gauge] = []
        self.ledger: list[LedgerEntry] = []
        self.pins: Optional[Pins] = None
        self.label_sets: dict[int, Labels] = {}  # by number
        self.calls: dict[Labels, int] = {}  # entries that ended under a set
        self.pools: dict[int, Pool] = {}  # by number, as the next
        self.pool_regions: dict[int, PoolRegion] = {}
        self.mismatches: list[RawMismatch] = []
        self._notes: list[str] = []
        self._arena = Arena(raw, origin)
        self._lose = self._arena.lose
        self.live = LiveColumns()
        python = PythonStacks(self._arena, self.header.python_version, self.header.python_state)
        self.rows = RowTable(self._arena, self.header, self.live, python, self._labels, self._pool_name)

    def run(self) -> None:
        """Decode the parts that every answer needs; the others wait until somebody asks."""
        segments = self._directory()
        by_kind: dict[int, list[Segment]] = {}
        for segment in segments:
            by_kind.setdefault(segment.kind, []).append(segment)
        for kind in by_kind:
            by_kind[kind].sort(key=lambda segment: (segment.order, segment.offset))
        self._read_modules(by_kind.get(layout.KIND_MODULES, []))
        self._read_threads(by_kind.get(layout.KIND_THREADS, []))
        self._read_label_sets(by_kind.get(layout.KIND_LABEL_SETS, []))
        self._read_pools(by_kind.get(layout.KIND_POOLS, []), by_kind.get(layout.KIND_POOL_REGIONS, []))
        for segment in by_kind.get(layout.KIND_LIVE, []):
            self.live.read(self._arena, segment)
        self.rows.read(self._row_index(by_kind.get(layout.KIND_ROW_INDEX, [])), self.header.overflow_row)
        self._read_marks(by_kind.get(layout.KIND_MARKS, []))
        self._read_gauges(by_kind.get(layout.KIND_GAUGES, []))
        self._read_ledger(by_kind.get(layout.KIND_LEDGER, []))
        self._read_pins(by_kind.get(layout.KIND_PINS, []))
        self._read_mismatches(by_kind.get(layout.KIND_MISMATCHES, []))
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
            layout.KIND_POOLS: layout.POOL.bytes,
            layout.KIND_POOL_REGIONS: layout.POOL_REGION.bytes,
            layout.KIND_MISMATCHES: layout.MISMATCH.bytes,
            layout.KIND_GAUGES: layout.GAUGE.bytes,
            layout.KIND_LEDGER: layout.LEDGER.bytes,
            layout.KIND_PINS: layout.PINS.bytes,
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
        for number, (ref, _, calls) in self._table(segments, layout.LABEL_SET, "sets of labels"):
            if ref and number <= layout.LABEL_SETS:
                raw = self._arena.string(ref, "sets of labels that are not in this copy")
                found = self.label_sets[number] = parse_labels(raw[: layout.LABEL_BYTES])
                if calls:
                    self.calls[found] = self.calls.get(found, 0) + calls

    def _read_pools(self, pools: list[Segment], regions: list[Segment]) -> None:
        for number, (state, count, capacity, ended, _, name) in self._table(pools, layout.POOL, "pools"):
            if state == 1 and number <= layout.POOL_OTHER:
                self.pools[number] = Pool(number, text(name) or f"pool_{number}", count, capacity, ended)
        for number, (pool, begun, size, _) in self._table(regions, layout.POOL_REGION, "regions of pools"):
            if 0 < pool <= layout.POOL_OTHER:
                self.pool_regions[number] = PoolRegion(number, pool, size, begun)

    def _pool_name(self, domain: int) -> str:
        number = domain - layout.POOL_DOMAIN
        if not 0 < number <= layout.POOL_OTHER:
            return ""
        return self.pools[number].name if number in self.pools else f"pool_{number}"

    def _read_mismatches(self, segments: list[Segment]) -> None:
        for _, fields in self._table(segments, layout.MISMATCH, "mismatches"):
            state, kind, _, row, native, python, pool, thread, first, last, _, *rest, _ = fields
            size, freed, samples, weight, target = rest
            if state != 2 or len(self.mismatches) >= layout.MISMATCHES:
                continue
            if self.rows.find(row) is None:
                self._lose("mismatches whose row is not in this copy")
                continue
            frames, truncated, freed_by = self.rows.stacks_at(native, python)
            stub = frame_of(target) if target else None
            self.mismatches.append(
                RawMismatch(
                    kind, row, frames, truncated, without_pool(freed_by.frames), pool, thread, first,
                    last, size, freed, samples, weight / 1024, stub,
                )
            )  # fmt: skip

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

    def _read_gauges(self, segments: list[Segment]) -> None:
        """Take in what is whole; of two with one name the program's own, which stands in a segment of a later order."""
        found: dict[str, Gauge] = {}
        for segment in segments[: layout.GAUGES]:
            for _, fields in self._table([segment], layout.GAUGE, "gauges"):
                state, length, raw, value, first, set_cs, changed, _, slots = fields
                name = raw[:length].decode("ascii", "replace")
                if state != layout.GAUGE_NAMED or length > layout.GAUGE_NAME_BYTES or not is_gauge_name(name):
                    continue
                if name in found and (not first or not found[name].from_outside):
                    continue
                history = self._gauge_history(slots, first, set_cs, value) if first else ()
                known = value if first else None
                found[name] = Gauge(name, known, first, set_cs, changed, history, segment.order == 0)
                if len(found) >= layout.GAUGES + layout.GAUGES_EACH:
                    break
        self.gauges = sorted(found.values())

    def _gauge_history(self, slots: bytes, first_cs: int, set_cs: int, value: int) -> tuple[tuple[int, int], ...]:
        header = self.header
        words = header.history_levels * header.history_slots
        if not 0 < 8 * words <= len(slots) or not header.history_unit_cs or header.history_level_shift > 8:
            return ()
        # A gauge may be set when nothing was allocated for long.
        header = header._replace(heartbeat_cs=max(header.end_cs, set_cs))
        points = decode_history(slots, 0, header)
        known = {cs: gauge_value(word) for cs, word in points if cs >= first_cs}
        known[header.end_cs] = value  # the last word may be that of a thread that set it at the same time
        return tuple(sorted(known.items()))

    def _read_ledger(self, segments: list[Segment]) -> None:
        found: dict[int, LedgerEntry] = {}
        for _, fields in self._table(segments, layout.LEDGER, "looks of the ledger"):
            sequence, *values, again = fields
            if sequence and sequence == again:
                del values[_LEDGER_RESERVED]
                found[sequence] = LedgerEntry._make(values)
        self.ledger = sorted((entry for _, entry in sorted(found.items())), key=lambda entry: entry.cs)

    def _read_pins(self, segments: list[Segment]) -> None:
        for _, fields in self._table(segments, layout.PINS, "pins"):
            sequence, cs, number, regions, sparse, *sums, refs, live, pinned, again = fields
            if sequence and sequence == again:
                most = layout.PINS_ROWS
                rows = zip(*(struct.unpack(f"<{most}{code}", raw) for code, raw in zip("IQQ", (refs, live, pinned))))
                region, live_bytes, sparse_bytes, occupied, sparse_occupied = sums
                totals = region, live_bytes, sparse_bytes, occupied, sparse_occupied
                self.pins = Pins(cs, regions, sparse, *totals, tuple(rows)[:number])

    def _row_index(self, segments: list[Segment]) -> bytes:
        """Return the words of the row index."""
        found: list[bytes] = []
        for segment in segments:
            whole = min(segment.capacity, max(0, len(self.raw) - segment.offset) // 8)
            self._lose("places of the row index beyond the end of the file", segment.capacity - whole)
            found.append(self.raw[segment.offset : segment.offset + 8 * whole])
        return b"".join(found)

    # -- records -----------------------------------------------------------------------------------

    def _path(self, ref: int) -> str:
        return os.fsdecode(self._arena.string(ref, "module names that are not in this copy"))


_TABLES = (
    layout.KIND_MODULES, layout.KIND_THREADS, layout.KIND_MARKS, layout.KIND_LABEL_SETS, layout.KIND_POOLS,
    layout.KIND_POOL_REGIONS, layout.KIND_MISMATCHES, layout.KIND_GAUGES, layout.KIND_LEDGER, layout.KIND_PINS,
)  # fmt: skip
_LEDGER_RESERVED = list(layout.LEDGER.codes).index("reserved0") - 1
