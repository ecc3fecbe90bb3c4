"""The rows of a recording: checked together, and each made when it is asked for.

A recording has tens of thousands of rows, and most questions are about ten of them. What decides which
ten stands here by column.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Optional

from . import layout
from .arena import Arena, BeyondEnd, Damage
from .errors import RecordingError
from .livecolumns import NO_SUMS, LiveColumns
from .once import once
from .pystacks import LOST_STACK, PythonStack, PythonStacks, without_pool
from .records import Frame, Header, History, Labels, LiveSums, RecordedRow, frame_of
from .stackwords import StackWords

MISSING_ROW = -1  # `RecordedRow.ref` of the row that stands for rows not in this copy
# Of all rows together. A row has 128 bytes and at most 128 frames, and each pair of stacks that makes it another row has a
# record or two: no writer comes near one frame in two bytes, which is what keeps the work of queries linear.
_BYTES_PER_FRAME = 2
_MASK = 0xFFFFFFFF
_KIND_MASK = (1 << 48) - 1
_PLAIN_KINDS = 1 << layout.KIND_FLAGS_SHIFT  # without flags
_FIELDS = {name: index for index, name in enumerate(layout.ROW.codes)}
_ALLOC_SAMPLES = _FIELDS["alloc_samples"]
# What came from a row that its outcome was not known in: counted there, too.
_MOVED = {"alloc_count_x1024": "moved_count_x1024", "alloc_bytes": "moved_bytes"}
_AT = layout.ROW.offsets
# Native and Python stack; labels, domain and flags in one word.
_IDENTITY = (_AT["native_stack"], 4), (_AT["python_stack"], 4), (_AT["label_set"], 8)
_PAST = (_AT["history"], 4), (_AT["last_cs"], 4), (_AT["alloc_bytes"], 8), (_AT["freed_bytes"], 8)
_KEY_HIGH = _AT["key"] + 4


class RowTable:
    """The rows by index.

    Attributes:
        refs: where each row's record is; of the row that stands for missing ones `MISSING_ROW`.
        natives: the native stack of each, by reference.
        pythons: the Python stack of each, by reference.
        kinds: labels, domain and flags of each, in one word; of the row that stands for missing ones -1.
        merged: index of a row that was recorded several times -> the references of all of them.
        labels: the labels of a set, by its number.
        native_stacks: what the references mean.
        python_stacks: likewise.
    """

    def __init__(
        self,
        arena: Arena,
        header: Header,
        live: LiveColumns,
        python: PythonStacks,
        labels: Callable[[int], Labels],
        pool_name: Callable[[int], str],
    ) -> None:
        """Begin empty; *labels* returns the labels of a set by its number, *pool_name* the name of a domain's pool."""
        self._arena = arena
        self._raw = arena.copy
        self._limit = len(self._raw) // layout.REF_BYTES
        self._header = header
        self._live = live
        self.labels = labels
        self._pool_name = pool_name
        self.python_stacks = python
        self.native_stacks = StackWords(arena, layout.RECORD_STACK, "stacks that are not in this copy")
        self.refs: Sequence[int] = []
        self.natives: Sequence[int] = []
        self.pythons: Sequence[int] = []
        self.kinds: Sequence[int] = []
        self.merged: dict[int, list[int]] = {}
        self._missing: list[int] = []
        words = header.history_levels * header.history_slots
        is_known = 0 < words <= 4096 and header.history_unit_cs and header.history_level_shift <= 8
        self._history_words = words if is_known else 0
        self._records: list[int] = []  # all of them, before those that mean the same were merged
        self._owners: Optional[bytes] = b""  # of each live sample which of these; None: some belong to none
        self._frames = _Frames()
        self._made: dict[int, RecordedRow] = {}

    def __len__(self) -> int:
        return len(self.refs)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, index: bytes, overflow_row: int) -> None:
        """Read the rows that the words of the row index lead to, and those that live samples belong to.

        Raises:
            RecordingError: records overlap, or there are more frames than a file of this size has.
        """
        refs = self._read_index(index)
        if overflow_row and self._add(refs, overflow_row, None) and not self._field(overflow_row, _ALLOC_SAMPLES):
            del refs[overflow_row]  # it is always there, and mostly empty
        self._owners = self._live.owners(list(refs), self._limit)
        if self._owners is None:
            for ref in dict.fromkeys(self._live.refs):
                # Published after the index was copied: the record itself may still be in the copy.
                if not self._add(refs, ref, None):
                    self._missing.append(ref)
            if not self._missing:
                self._owners = self._live.owners(list(refs), self._limit)
        self._records = list(refs)
        if refs:
            self._take(self._records)
        self._add_missing()

    def _read_index(self, index: bytes) -> dict[int, None]:
        from . import _columns  # as in arena.py

        rows = _columns.rows(self._arena.copy, index)
        if rows is not None and self._arena.pay(rows[1]):
            return dict.fromkeys(rows[0])
        found: dict[int, None] = {}
        for word in filter(None, memoryview(index).cast("Q")):
            self._add(found, word & _MASK, word >> 32)
        return found

    def _add(self, found: dict[int, None], ref: int, key_high: Optional[int]) -> bool:
        """Note the row at *ref*; False, and counted, when there is none."""
        if ref in found:
            return True
        try:
            self._arena.record(ref, layout.RECORD_ROW, layout.ROW.bytes)
        except BeyondEnd:
            self._arena.lose("rows beyond the end of the file")
            return False
        except Damage:
            self._arena.lose("references that do not lead to a row")
            return False
        if key_high is not None and self._arena.halves([ref], _KEY_HIGH)[0] != key_high:
            self._arena.lose("references that do not lead to a row")
            return False
        found[ref] = None
        return True

    def _take(self, refs: list[int]) -> None:
        from . import _columns

        self.refs = refs
        self.natives, pythons, kinds = self._arena.fields(refs, *_IDENTITY)
        self.pythons = pythons if self.python_stacks.known(1) else [0] * len(pythons)
        if any([kind > _PLAIN_KINDS for kind in kinds]):
            lost = layout.ROW_PYTHON_LOST << layout.KIND_FLAGS_SHIFT
            # Where there is a Python stack it is not lost.
            kinds = [kind & _KIND_MASK & ~(lost if python else 0) for kind, python in zip(kinds, pythons)]
        self.kinds = kinds
        self._read_stacks()
        if not _columns.distinct(self._arena.copy, refs, _AT["key"]):
            self._merge_same(self._arena.words(refs, _AT["key"]))

    def _read_stacks(self) -> None:
        frames_left = len(self._raw) // _BYTES_PER_FRAME
        for stacks, refs in ((self.native_stacks, self.natives), (self.python_stacks.table, self.pythons)):
            frames_left -= stacks.read(refs)
        if frames_left < 0:
            raise RecordingError(f"{self._arena.origin}: damaged: its rows have more frames than its size allows")

    def _merge_same(self, keys: Sequence[int]) -> None:
        """Let rows that stand for the same thing be one: those of one key, and also else equal."""
        of_key: dict[int, list[int]] = {}
        for index, key in enumerate(keys):
            of_key.setdefault(key, []).append(index)
        kept: list[list[int]] = []
        for same in of_key.values():
            if len(same) == 1:
                kept.append(same)
                continue
            merged: dict[Any, list[int]] = {}
            for index in same:
                merged.setdefault((self.kinds[index], *self._stacks_at(index)), []).append(index)
            kept += merged.values()
        self.merged = {new: [self.refs[index] for index in same] for new, same in enumerate(kept) if len(same) > 1}
        for name in ("refs", "natives", "pythons", "kinds"):
            column = getattr(self, name)
            setattr(self, name, [column[same[0]] for same in kept])

    def _add_missing(self) -> None:
        if not self._missing:
            return
        index = len(self.refs)
        self.merged[index] = self._missing
        for name, value in (("refs", MISSING_ROW), ("natives", 0), ("pythons", 0), ("kinds", -1)):
            setattr(self, name, [*getattr(self, name), value])

    @once
    def _index_of(self) -> dict[int, int]:
        found = dict(zip(self.refs, range(len(self.refs))))
        for index, refs in self.merged.items():
            found.update(dict.fromkeys(refs, index))
        return found

    # -- one row -----------------------------------------------------------------------------------

    def index_of(self, ref: int) -> int:
        """Return the index of the row whose record is at *ref*, which a live sample or the index names."""
        return self._index_of[ref]

    def find(self, ref: int) -> Optional[int]:
        """Return the index of the row whose record is at *ref*; None when this copy does not hold it."""
        return self._index_of.get(ref)

    def refs_of(self, index: int) -> list[int]:
        """Return where the records of a row are."""
        return self.merged.get(index) or [self.refs[index]]

    def row(self, index: int) -> RecordedRow:
        """Return a row."""
        found = self._made.get(index)
        if found is None:
            is_missing = self.refs[index] == MISSING_ROW
            found = self._made[index] = self._missing_row() if is_missing else self._make(index)
        return found

    def live(self, index: int) -> LiveSums:
        """Return the sums over a row's live samples."""
        found = NO_SUMS
        for number, ref in enumerate(self.refs_of(index)):
            sums = self._live.sums(ref)
            found = found + sums if number else sums
        return found

    def samples(self, index: int) -> list[tuple[int, float]]:
        """Return (born_cs, weight) of a row's live samples."""
        borns, weights = self._live.borns, self._live.weights
        return [(borns[at], weights[at] / 1024) for ref in self.refs_of(index) for at in self._live.at(ref)]

    def sized_samples(self, index: int) -> list[tuple[int, float, int]]:
        """Return (born_cs, weight, size in bytes) of a row's live samples."""
        live = self._live
        return [
            (live.borns[at], live.weights[at] / 1024, live.sizes[at])
            for ref in self.refs_of(index)
            for at in live.at(ref)
        ]

    def frames(self, ref: int) -> tuple[Frame, ...]:
        """Return the native stack at *ref*."""
        return tuple(map(self._frames.__getitem__, self.native_stacks.words(ref)))

    def python_stack(self, index: int) -> PythonStack:
        """Return the Python stack of a row."""
        kind = self.kinds[index]
        lost = kind > 0 and kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_PYTHON_LOST
        found = LOST_STACK if lost else self.python_stacks.stack(self.pythons[index])
        return found if self.in_totals(index) else found._replace(frames=without_pool(found.frames))

    def domain(self, index: int) -> int:
        """Return what a row's allocations were asked through."""
        kind = self.kinds[index]
        return 0 if kind < 0 else kind >> 32 & 0xFF

    def in_totals(self, index: int) -> bool:
        """Whether a row counts in totals: what a pool gives out lies in memory that counts as somebody else's."""
        return self.domain(index) <= layout.POOL_DOMAIN

    def pool(self, index: int) -> str:
        """Return the name of a row's pool; empty: it is none's."""
        return "" if self.in_totals(index) else self._pool_name(self.domain(index))

    def stacks_at(self, native: int, python: int) -> tuple[tuple[Frame, ...], bool, PythonStack]:
        """Return a native stack, whether it was cut, and a Python stack, which need not be of a row."""
        return self.frames(native), self.native_stacks.is_truncated(native), self.python_stacks.stack(python)

    def _stacks_at(self, index: int) -> tuple[tuple[Frame, ...], bool, tuple[Any, ...], bool]:
        native, python = self.natives[index], self.python_stack(index)
        return self.frames(native), self.native_stacks.is_truncated(native), python.frames, python.truncated

    def _field(self, ref: int, field: int) -> int:
        return int(layout.ROW.format.unpack_from(self._raw, ref * layout.REF_BYTES)[field])

    def _make(self, index: int) -> RecordedRow:
        refs = self.refs_of(index)
        parts = [layout.ROW.format.unpack_from(self._raw, ref * layout.REF_BYTES) for ref in refs]
        whole = parts[0] if len(parts) == 1 else _added_up(parts)
        frames, truncated, python, python_truncated = self._stacks_at(index)
        row = (
            refs[0], whole[1], whole[5], bool(whole[6] & layout.ROW_OVERFLOW), False, frames, truncated,
            python, python_truncated, whole[4], whole[8], whole[9], whole[12], whole[13],
            max(0, whole[14] - whole[21]) / 1024, max(0, whole[15] - whole[21]) / 1024,
            max(0, whole[16] - whole[22]), max(0, whole[17] - whole[22]), whole[18], whole[19], whole[20],
            self._joined(parts), self.live(index), self.labels(whole[4]), self.pool(index),
        )  # fmt: skip
        return RecordedRow._make(row)  # there may be 20,000 of them: by name it takes twice as long

    def history(self, index: int) -> Sequence[tuple[int, int]]:
        """Return what a row held at earlier moments, as `RecordedRow` has it."""
        if self.refs[index] == MISSING_ROW or index in self.merged:
            return self.row(index).history
        history, last_cs, allocated, freed = self._pasts[index]
        present = last_cs, max(0, allocated - freed)
        return self._decode(history * layout.REF_BYTES + 16) or (present,) if self._is_past(history) else (present,)

    @once
    def _pasts(self) -> list[tuple[int, ...]]:
        """Of the first record of each row history, last_cs, and bytes that were allocated and freed."""
        refs = [max(ref, 0) for ref in self.refs]
        return list(zip(*self._arena.fields(refs, *_PAST)))

    @once
    def _decode(self) -> Callable[[int], tuple[tuple[int, int], ...]]:
        """What decodes the history whose words begin at an offset."""
        from . import _columns

        header = self._header
        form = header.history_levels, header.history_slots, header.history_unit_cs, header.history_level_shift
        raw, end_cs = self._raw, header.end_cs
        return lambda at: _columns.history(raw, at, *form, end_cs)

    def _is_past(self, history: int) -> bool:
        """Whether there is a history at a reference that a row has."""
        words = self._history_words
        return bool(history and words) and self._arena.stands(history, layout.RECORD_HISTORY, 16 + 8 * words)

    def _joined(self, parts: list[tuple[int, ...]]) -> Sequence[tuple[int, int]]:
        histories = [self._history(part) for part in parts]
        return histories[0] if len(histories) == 1 else _merged(histories)

    def _history(self, fields: tuple[int, ...]) -> Sequence[tuple[int, int]]:
        """Return a row's history; a row too young to have one gives its present value."""
        history = fields[_FIELDS["history"]]
        present = (fields[9], max(0, fields[16] - fields[17]))
        if not self._is_past(history):
            return (present,)
        return History(self._raw, history * layout.REF_BYTES + 16, self._header, present)

    def _missing_row(self) -> RecordedRow:
        live = self.live(len(self.refs) - 1)
        refs, end, columns = set(self._missing), self._header.end_cs, self._live
        born = [min(born_cs, end) for ref, born_cs in zip(columns.refs, columns.borns) if ref in refs]
        return RecordedRow(
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

    # -- all of them -------------------------------------------------------------------------------

    def sums(self, *, sized: bool = False, weighted: bool = False) -> list[int]:
        """Return for each row the sum of the sizes of its live samples, of ones without; *weighted* by 1/1024."""
        if self._owners is None:
            return self._by_row(self._live.add_up_by_row(sized=sized, weighted=weighted))
        return self._of_records(self._live.add_up(self._owners, len(self._records), sized=sized, weighted=weighted))

    def live_squares(self) -> list[int]:
        """Return for each row the sum of the squares of what its live samples stand for, in 1/1024 bytes."""
        if self._owners is None:
            return self._by_row(self._live.squares_by_row())
        return self._of_records(self._live.squares(self._owners, len(self._records)))

    def _of_records(self, found: list[int]) -> list[int]:
        return found if self.refs is self._records else self._by_row(dict(zip(self._records, found)))

    def _by_row(self, of_ref: dict[int, int]) -> list[int]:
        found = list(map(of_ref.get, self.refs, repeat(0)))
        for index, refs in self.merged.items():
            found[index] = sum([of_ref.get(ref, 0) for ref in refs])
        return found

    def column(self, field: str) -> list[int]:
        """Return a field of each row's record, of merged rows that of the first; 0 of the row of missing ones."""
        refs = [max(ref, 0) for ref in self.refs]  # reference 0 is the header
        (found,) = self._arena.fields(refs, (_AT[field], 8 if layout.ROW.codes[field] == "Q" else 4))
        if field in _MOVED:
            moved = self.column(_MOVED[field])
            if any(moved):
                found = [max(0, value - less) for value, less in zip(found, moved)]
        if self.refs and self.refs[-1] == MISSING_ROW:
            found[-1] = 0
        return found

    def label_sets(self) -> list[Labels]:
        """Return the sets of labels that rows have, in order."""
        return sorted({self.labels(kind & _MASK) if kind >= 0 else () for kind in set(self.kinds)})

    def unknown_frames(self) -> frozenset[Frame]:
        """Return the frames of all stacks that lie in no known module."""
        return frozenset(
            frame
            for ref in dict.fromkeys(self.natives)
            if self.is_unknown(ref)
            for frame in self.frames(ref)
            if frame.module_id == 0
        )

    def is_unknown(self, native: int) -> bool:
        """Whether a native stack goes through a place in no known module."""
        # The modules are the upper halves of the words' upper halves: looking for a zero in them takes less time.
        stacks = self.native_stacks
        begins = native * layout.REF_BYTES + layout.STACK.bytes
        ends = begins + 8 * (stacks.shape(native) & 0xFFFF)
        lows = bytes(self._raw[begins + 6 : ends : 8])
        return 0 in lows and any(low | high == 0 for low, high in zip(lows, self._raw[begins + 7 : ends : 8]))

    def check_rest(self) -> None:
        """Look at all that has been left until it is asked for, so that what is not in this copy is counted."""
        self.python_stacks.check(dict.fromkeys(self.pythons))
        refs = [ref for ref in self._arena.halves(self._records, _AT["history"]) if ref]
        least = 16 + 8 * self._history_words
        if self._history_words and not self._arena.all_stand(refs, layout.RECORD_HISTORY, least):
            for ref in refs:
                if not self._arena.stands(ref, layout.RECORD_HISTORY, least):
                    self._arena.lost.setdefault("histories that are not in this copy", set()).add(ref)


class _Frames(dict[int, Frame]):
    """The frames of words, each made when it is first met: stacks share most of theirs."""

    def __missing__(self, word: int) -> Frame:
        frame = self[word] = frame_of(word)
        return frame


def _added_up(parts: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the fields of several rows of the same thing as those of one."""
    fields = list(parts[0])
    fields[8] = min(part[8] for part in parts)
    fields[9] = max(part[9] for part in parts)
    for index in (12, 13, 14, 15, 16, 17, 18, 20, 21, 22):
        fields[index] = sum(part[index] for part in parts)
    fields[19] = max(parts, key=lambda part: part[18])[19]
    return tuple(fields)


def _merged(histories: list[Sequence[tuple[int, int]]]) -> tuple[tuple[int, int], ...]:
    """Add up the histories of duplicates."""
    events = sorted((when, part, value) for part, points in enumerate(histories) for when, value in points)
    latest = [0] * len(histories)
    totals: dict[int, int] = {}
    total = 0
    for when, part, value in events:
        total += value - latest[part]
        latest[part] = value
        totals[when] = total
    return tuple(totals.items())
