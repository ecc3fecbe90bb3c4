"""Decode the bytes of a recording: every one of them hostile until checked.

Offsets and counts are checked before use and the work is linear in the number of bytes. What does
not stand where a reference points is left out and counted in `Decoder.incomplete`.
"""

import os
import struct
from collections.abc import Iterator
from typing import Any, Optional

from . import layout
from .arena import FRAMES_MOST, Arena, BeyondEnd, Damage
from .errors import NewerFormatError, RecordingError
from .names import is_gauge_name
from .pystacks import LOST_STACK, PythonStack, PythonStacks, without_pool
from .records import (
    OTHER_LABELS,
    UNKNOWN_MODULE,
    Frame,
    Gauge,
    Header,
    Labels,
    LedgerEntry,
    LiveSample,
    LiveSums,
    Mark,
    Module,
    Pins,
    Pool,
    PoolRegion,
    RawMismatch,
    RecordedRow,
    Segment,
    Thread,
    decode_history,
    gauge_value,
    parse_labels,
    text,
)

MISSING_ROW = -1  # `RecordedRow.ref` of the row that stands for rows not in this copy
_KEYS_PER_STEP = 512
# Of all rows together. A row has 136 bytes and at most 128 frames, and each pair of stacks that makes it another row has a
# record or two: no writer comes near one frame in two bytes, which is what keeps the work of queries linear.
_BYTES_PER_FRAME = 2


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


class _Frames(dict[int, Frame]):
    """The frames of words, each made when it is first met: stacks share most of theirs."""

    def __missing__(self, word: int) -> Frame:
        exact = bool(word & layout.FRAME_EXACT)
        frame = self[word] = Frame(word >> layout.FRAME_MODULE_SHIFT, word & layout.FRAME_VADDR_MASK, exact)
        return frame


class Decoder:
    """The state of one decoding; `run` fills it."""

    def __init__(self, raw: bytes, origin: str) -> None:
        self.raw = raw
        self.origin = origin
        self.header = parse_header(raw[: layout.HEADER_BYTES], origin)
        self.modules: list[Module] = []
        self.threads: list[Thread] = []
        self.rows: list[RecordedRow] = []
        self.row_of_ref: dict[int, int] = {}
        self.live: list[LiveSample] = []
        self.marks: list[Mark] = []
        self.gauges: list[Gauge] = []
        self.ledger: list[LedgerEntry] = []
        self.pins: Optional[Pins] = None
        self.label_sets: dict[int, Labels] = {}  # by number
        self.calls: dict[Labels, int] = {}  # entries that ended under a set
        self.pools: dict[int, Pool] = {}  # by number, as the next
        self.pool_regions: dict[int, PoolRegion] = {}
        self.pool_samples: list[tuple[int, int, int, int]] = []  # row_ref, size_bytes, weight_x1024, region
        self.mismatches: list[RawMismatch] = []
        self.torn = 0
        self.incomplete: list[str] = []
        self._arena = Arena(raw, origin)
        self._lose = self._arena.lose
        self._python = PythonStacks(self._arena, self.header.python_version, self.header.python_state)
        self._stacks: dict[int, tuple[tuple[Frame, ...], bool]] = {}
        self._frames = _Frames()
        self._words = memoryview(raw)[: len(raw) & ~7].cast("Q")  # records begin at multiples of 16
        self._raw_rows: dict[int, tuple[int, ...]] = {}

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
        self._read_pools(by_kind.get(layout.KIND_POOLS, []), by_kind.get(layout.KIND_POOL_REGIONS, []))
        self._read_row_index(by_kind.get(layout.KIND_ROW_INDEX, []))
        for segment in by_kind.get(layout.KIND_LIVE, []):
            self._read_live(segment)
        self._read_marks(by_kind.get(layout.KIND_MARKS, []))
        self._read_gauges(by_kind.get(layout.KIND_GAUGES, []))
        self._read_ledger(by_kind.get(layout.KIND_LEDGER, []))
        self._read_pins(by_kind.get(layout.KIND_PINS, []))
        self._build_rows()
        self._read_mismatches(by_kind.get(layout.KIND_MISMATCHES, []))
        self.incomplete += [f"{count} {what}" for what, count in self._arena.losses.items()]

    # -- tables ------------------------------------------------------------------------------------

    def _directory(self) -> list[Segment]:
        size = len(self.raw)
        if self.header.room_used > size:
            self.incomplete.append(f"the file ends after {size} of {self.header.room_used} bytes")
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
            if row not in self.row_of_ref:
                self._lose("mismatches whose row is not in this copy")
                continue
            frames, truncated = self._stack(native)
            stub = self._frames[target] if target else None
            self.mismatches.append(
                RawMismatch(
                    kind, row, frames, truncated, without_pool(self._python.stack(python).frames), pool, thread, first,
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
        points = decode_history(struct.unpack_from(f"<{words}Q", slots), header)
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

    def _read_row_index(self, segments: list[Segment]) -> None:
        for segment in segments:
            whole = min(segment.capacity, max(0, len(self.raw) - segment.offset) // 8)
            self._lose("places of the row index beyond the end of the file", segment.capacity - whole)
            for _, word in _nonzero(self.raw, segment.offset, whole):
                self._add_row(word & 0xFFFFFFFF, word >> 32)
        overflow = self.header.overflow_row
        if overflow and self._add_row(overflow, None) and not self._raw_rows[overflow][_ALLOC_SAMPLES]:
            del self._raw_rows[overflow]  # it is always there, and mostly empty

    def _add_row(self, ref: int, key_high: Optional[int]) -> bool:
        """Note the row at *ref*; False, and counted, when there is none."""
        if ref in self._raw_rows:
            return True
        try:
            at, _ = self._arena.record(ref, layout.RECORD_ROW, layout.ROW.bytes)
        except BeyondEnd:
            self._lose("rows beyond the end of the file")
            return False
        except Damage:
            self._lose("references that do not lead to a row")
            return False
        fields = layout.ROW.format.unpack_from(self.raw, at)
        if key_high is not None and fields[1] >> 32 != key_high:
            self._lose("references that do not lead to a row")
            return False
        self._raw_rows[ref] = fields
        return True

    # -- records -----------------------------------------------------------------------------------

    def _path(self, ref: int) -> str:
        return os.fsdecode(self._arena.string(ref, "module names that are not in this copy"))

    def _stack(self, ref: int) -> tuple[tuple[Frame, ...], bool]:
        found = self._stacks.get(ref)
        if found is not None:
            return found
        frames: tuple[Frame, ...] = ()
        truncated = False
        if ref:
            try:
                at, length = self._arena.record(ref, layout.RECORD_STACK, layout.STACK.bytes)
                _, _, count, flags, _ = _unpack_stack(self.raw, at)
                if layout.STACK.bytes + 8 * count > length or count > FRAMES_MOST:
                    raise Damage
                first = (at + layout.STACK.bytes) >> 3
                frames = tuple(map(self._frames.__getitem__, self._words[first : first + count]))
                truncated = bool(flags & layout.STACK_TRUNCATED)
            except (Damage, BeyondEnd):
                self._lose("stacks that are not in this copy")
                truncated = True
        self._stacks[ref] = frames, truncated
        return frames, truncated

    def _history(self, ref: int) -> tuple[tuple[int, int], ...]:
        header = self.header
        words = header.history_levels * header.history_slots
        if not ref or not 0 < words <= 4096 or not header.history_unit_cs or header.history_level_shift > 8:
            return ()
        try:
            at, _ = self._arena.record(ref, layout.RECORD_HISTORY, 16 + 8 * words)
        except (Damage, BeyondEnd):
            self._lose("histories that are not in this copy")
            return ()
        return decode_history(struct.unpack_from(f"<{words}Q", self.raw, at + 16), header)

    # -- live set ----------------------------------------------------------------------------------

    def _read_live(self, segment: Segment) -> None:
        raw, live = self.raw, self.live
        unpack, entry_bytes = layout.LIVE.format.unpack_from, layout.LIVE.bytes
        is_live, layer_shift, mask32 = layout.LIVE_KEY_LIVE, layout.LIVE_KEY_LAYER_SHIFT, 0xFFFFFFFF
        check_1, check_2, check_3 = layout.CHECK_1, layout.CHECK_2, layout.CHECK_3
        of_pool, no_sample = layout.LAYER_POOL, layout.LAYER_NO_SAMPLE
        entries = segment.offset + 8 * segment.capacity
        whole = min(segment.capacity, max(0, len(raw) - segment.offset) // 8)
        self._lose("places of the live set beyond the end of the file", segment.capacity - whole)
        readable = max(0, len(raw) - entries) // entry_bytes
        beyond = 0
        for index, key in _nonzero(raw, segment.offset, whole):
            if not key & is_live:
                continue
            if index >= readable:
                beyond += 1
                continue
            layer = key >> layer_shift & 15
            if layer >= no_sample:
                continue
            size, row, weight, born, thread, check, _ = unpack(raw, entries + index * entry_bytes)
            # layout.live_check(), in place: this is the innermost loop of reading.
            total = key + size * check_1 + (row << 32 | weight) * check_2 + (born << 32 | thread) * check_3
            if (total >> 32 ^ total) & mask32 != check or weight < 1024:
                self.torn += 1
                continue
            if layer == of_pool:
                self.pool_samples.append((row, size, weight, thread >> layout.LIVE_REGION_SHIFT))
                thread &= layout.LIVE_THREAD_MASK
            live.append((row, size, weight, born, thread, layer))
        self._lose("live samples beyond the end of the file", beyond)

    @property
    def unknown_frames(self) -> frozenset[Frame]:
        """The frames that lie in no known module."""
        return frozenset(frame for frame in self._frames.values() if frame.module_id == 0)

    def _sum_live(self) -> dict[int, LiveSums]:
        """Return the sums over each row's live samples."""
        grouped: dict[int, list[tuple[int, int]]] = {}
        for ref, size, weight, *_ in self.live:
            if ref in grouped:
                grouped[ref].append((size, weight))
            else:
                grouped[ref] = [(size, weight)]
        k, m = 1 / 1024, 1 / (1024 * 1024)
        sums = {}
        for ref, samples in grouped.items():
            total = count = value = vc = vb = qc = qb = most = 0
            heaviest = (1024, 0)
            for size, weight in samples:
                wx = weight * size
                over = weight - 1024
                total += size
                count += weight
                value += wx
                vc += weight * over
                adds = wx * over * size
                vb += adds
                if adds > most:
                    heaviest, most = (weight, size), adds
                qc += weight * weight
                qb += wx * wx
            heavy = heaviest[0] * k, heaviest[1]
            sums[ref] = _make_sums(
                (len(samples), total, count * k, value * k, vc * m, vb * m, qc * m, qb * m, heavy)
            )
        return sums

    # -- rows --------------------------------------------------------------------------------------

    def _build_rows(self) -> None:
        sums = self._sum_live()
        for ref in sums:
            # Published after the index was copied: the record itself may still be in the copy.
            if ref not in self._raw_rows and not self._add_row(ref, None):
                self.row_of_ref[ref] = MISSING_ROW
        by_key: dict[int, list[int]] = {}
        stacks_of: dict[int, tuple[tuple[Frame, ...], bool, PythonStack]] = {}
        python_stack = self._python.stack
        frames_left = len(self.raw) // _BYTES_PER_FRAME
        for ref, fields in self._raw_rows.items():
            lost = fields[6] & layout.ROW_PYTHON_LOST and not fields[3]
            frames, truncated = self._stack(fields[2])
            python = LOST_STACK if lost else python_stack(fields[3])
            stacks_of[ref] = frames, truncated, python
            frames_left -= len(frames) + len(python.frames)
            if frames_left < 0:
                raise RecordingError(f"{self.origin}: damaged: its rows have more frames than its size allows")
            by_key.setdefault(fields[1], []).append(ref)
        for refs in self._same_rows(by_key, stacks_of):
            for ref in refs:
                self.row_of_ref[ref] = len(self.rows)
            parts = [self._raw_rows[ref] for ref in refs]
            whole = parts[0] if len(parts) == 1 else _added_up(parts)
            live = sums.get(refs[0], _NO_SUMS)
            for ref in refs[1:]:
                live += sums.get(ref, _NO_SUMS)
            frames, truncated, python = stacks_of[refs[0]]
            if whole[5] > layout.POOL_DOMAIN:
                python = python._replace(frames=without_pool(python.frames))
            row = (
                refs[0], whole[1], whole[5], bool(whole[6] & layout.ROW_OVERFLOW), False, frames, truncated,
                python.frames, python.truncated, whole[4], whole[8], whole[9], whole[12], whole[13],
                max(0, whole[14] - whole[21]) / 1024, max(0, whole[15] - whole[21]) / 1024,
                max(0, whole[16] - whole[22]), max(0, whole[17] - whole[22]), whole[18], whole[19], whole[20],
                self._merged_history(parts), live, self._labels(whole[4]),
                self._pool_name(whole[5]) if whole[5] > layout.POOL_DOMAIN else "",
            )  # fmt: skip
            self.rows.append(RecordedRow._make(row))  # 20,000 of them: by name it takes twice as long
        self._add_missing_row(sums)

    def _same_rows(self, by_key: dict[int, list[int]], stacks_of: dict[int, Any]) -> Iterator[list[int]]:
        """Yield the rows that stand for the same thing together: those of one key, and also else equal."""
        for refs in by_key.values():
            if len(refs) == 1:
                yield refs
                continue
            merged: dict[tuple[Any, ...], list[int]] = {}
            for ref in refs:
                fields = self._raw_rows[ref]
                rest = fields[5], fields[4], fields[6] & layout.ROW_OVERFLOW
                merged.setdefault((*rest, *stacks_of[ref]), []).append(ref)
            yield from merged.values()

    def _merged_history(self, parts: list[tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
        """Add up the histories of duplicates; a row too young to have one gives its present value."""
        each = [
            (self._history(part[10]) if part[10] else ()) or ((part[9], max(0, part[16] - part[17])),) for part in parts
        ]
        if len(each) == 1:
            return each[0]
        events = sorted((when, part, value) for part, points in enumerate(each) for when, value in points)
        latest = [0] * len(each)
        totals: dict[int, int] = {}
        total = 0
        for when, part, value in events:
            total += value - latest[part]
            latest[part] = value
            totals[when] = total
        return tuple(totals.items())

    def _add_missing_row(self, sums: dict[int, LiveSums]) -> None:
        missing = [ref for ref, row in self.row_of_ref.items() if row == MISSING_ROW]
        if not missing:
            return
        for ref in missing:
            self.row_of_ref[ref] = len(self.rows)
        live = sum((sums[ref] for ref in missing), LiveSums())
        refs, end = set(missing), self.header.end_cs
        born = [min(born_cs, end) for ref, _, _, born_cs, *_ in self.live if ref in refs]
        self.rows.append(
            RecordedRow(
                ref=MISSING_ROW,
                key=0,
                domain=0,
                overflow=False,
                missing=True,
                stack=(),
                truncated=False,
                python_stack=(),
                python_truncated=False,
                label_set=0,
                first_cs=min(born),
                last_cs=max(born),
                alloc_samples=live.samples,
                freed_samples=0,
                alloc_count=live.est_count,
                freed_count=0.0,
                alloc_bytes=round(live.est_bytes),
                freed_bytes=0,
                peak_bytes=round(live.est_bytes),
                peak_cs=end,
                lost_samples=0,
                history=((end, round(live.est_bytes)),),
                live=live,
            )
        )


_NO_SUMS = LiveSums()
_unpack_stack = layout.STACK.format.unpack_from
_make_sums = LiveSums._make
_ALLOC_SAMPLES = list(layout.ROW.codes).index("alloc_samples")
_TABLES = (
    layout.KIND_MODULES, layout.KIND_THREADS, layout.KIND_MARKS, layout.KIND_LABEL_SETS, layout.KIND_POOLS,
    layout.KIND_POOL_REGIONS, layout.KIND_MISMATCHES, layout.KIND_GAUGES, layout.KIND_LEDGER, layout.KIND_PINS,
)  # fmt: skip
_LEDGER_RESERVED = list(layout.LEDGER.codes).index("reserved0") - 1
_ZEROS = bytes(8 * _KEYS_PER_STEP)


def _added_up(parts: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the fields of several rows of the same thing as those of one."""
    fields = list(parts[0])
    fields[8] = min(part[8] for part in parts)
    fields[9] = max(part[9] for part in parts)
    for index in (12, 13, 14, 15, 16, 17, 18, 20, 21, 22):
        fields[index] = sum(part[index] for part in parts)
    fields[19] = max(parts, key=lambda part: part[18])[19]
    return tuple(fields)


def _nonzero(raw: bytes, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield (index, word) of the words that are not zero, of *count* words at *offset*."""
    for first in range(0, count, _KEYS_PER_STEP):
        last = min(first + _KEYS_PER_STEP, count)
        step = raw[offset + 8 * first : offset + 8 * last]
        if step == _ZEROS[: len(step)]:
            continue
        for index, word in enumerate(struct.unpack(f"<{last - first}Q", step), first):
            if word:
                yield index, word
