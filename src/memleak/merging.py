"""The stacks of recordings: of several, brought together by what they mean; of one, each made when somebody looks at it.

What several recordings have in common only their frames tell. Within one, two rows can mean the same stack only if
they have one native stack and their Python frames differ in nothing but instructions of one line: few do.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union, overload

from . import layout
from .grouping import Group, Source, merge_stacks
from .once import once
from .pystacks import PythonStacks
from .recording import Recording
from .records import frame_of
from .stacks import Tracer, joined_tokens, shown_python, token

_BYTE = 0xFF
_LABELS_MASK = 0xFFFFFFFF
# Sums over live samples: they can be sorted by without making a group first.
SUMS = ("est_bytes", "est_count", "alloc_bytes", "alloc_count", "samples")
# Columns that only labels, domain and flags of a row decide, and of which recording it is.
_BY_KIND = {"tenant_id", "mod_name", "ctx_name", "process", "labels"}
_BY_RECORDING = {"svr_ip", "svr_port", "ctx_id", "pid", "host", "exact"}
_RECORDED = {
    "total_count": "alloc_count_x1024",
    "total_bytes": "alloc_bytes",
    "peak_bytes": "peak_bytes",
    "first_seen": "first_cs",
    "last_seen": "last_cs",
}


class Stacks:
    """The stacks of one recording. The number of each is the index of the first row that has it."""

    def __init__(self, source: Source) -> None:
        """Take the recording; nothing is compared yet."""
        self._sources = (source,)
        self._recording = source.recording
        self._table = source.recording.table

    @once
    def merged(self) -> dict[int, list[int]]:
        """The stacks that several rows have: number -> indices of the rows."""
        return self._merge_same()

    @once
    def numbers(self) -> list[int]:
        """Of every stack."""
        absorbed = {index for rows in self.merged.values() for index in rows[1:]}
        every = range(len(self._table))
        return [index for index in every if index not in absorbed] if absorbed else list(every)

    def rows(self, number: int) -> Sequence[int]:
        """Return the indices of the rows that a stack has."""
        return self.merged.get(number) or (number,)

    def group(self, number: int) -> Group:
        """Return a stack."""
        group = Group(number, number)
        for index in self.rows(number):
            group.add((0, index), self._recording.row(index))
        return group

    # -- columns: by number, and of no meaning for the numbers of rows that stand under another ------

    def sums(self, column: str) -> list[int]:
        """Return one of `SUMS`; estimates in 1/1024."""
        found = self._sums.get(column)
        if found is None:
            recording = self._recording
            read = {"est_bytes": "est_bytes", "est_count": "est_counts", "alloc_bytes": "live_bytes"}
            values: list[int] = getattr(recording, read.get(column, "live_counts"))
            if self.merged:
                values = list(values)
                for number, rows in self.merged.items():
                    values[number] = sum([values[index] for index in rows])
            found = self._sums[column] = values
        return found

    @once
    def _sums(self) -> dict[str, list[int]]:
        return {}

    @property
    def taken(self) -> list[int]:
        """Of each stack that is one row: how many samples were ever taken, see `Recording.taken`."""
        if self._recording.is_thinned:
            found = [sum(pair) for pair in zip(self._recording.live_counts, self._table.column("freed_samples"))]
        else:
            found = self._table.column("alloc_samples")
        for number in self._table.merged:
            found[number] = self._recording.taken(self._recording.row(number))
        return found

    def facts(self, column: str) -> list[Any]:
        """Return one of the columns of `Facts`."""
        found: list[Any]
        if column in SUMS:
            found = self.sums(column)
            return [round(value / 1024) for value in found] if column.startswith("est_") else found
        if column in _BY_RECORDING:
            numbers = self.numbers[:1]
            return [getattr(self.group(number).facts(self._sources), column) for number in numbers] * len(self._table)
        if column in _BY_KIND:
            of_kind = {
                kind: getattr(self.group(number).facts(self._sources), column)
                for kind, number in dict(zip(reversed(self._table.kinds), reversed(range(len(self._table))))).items()
            }
            return [of_kind[kind] for kind in self._table.kinds]
        field, began = _RECORDED[column], self._sources[0].began
        values = self._table.column(field)
        if column == "total_count":
            found = [round(value / 1024) for value in values]
        elif column.endswith("_seen"):
            found = [began + value / 100 for value in values]
        else:
            found = values
        for number in {*self.merged, *self._table.merged}:  # records of their own do not tell
            found[number] = getattr(self.group(number).facts(self._sources), column)
        return found

    def backtraces(self) -> Iterator[tuple[int, bool, bool, bool, bool]]:
        """Yield numbers of samples, and of their stacks whether they are none, were cut, are in an unknown place, lost frames.

        Those of which nothing of that is true are one number.
        """
        table = self._table
        counts, stacks = self.sums("samples"), table.native_stacks
        amiss = {}
        for ref in set(table.natives):
            if not stacks.shape(ref) & 0xFFFF or stacks.is_truncated(ref) or table.is_unknown(ref):
                amiss[ref] = not stacks.shape(ref) & 0xFFFF, stacks.is_truncated(ref), table.is_unknown(ref)
        cut = {ref for ref in set(table.pythons) if table.python_stacks.table.is_truncated(ref)}
        lost = layout.ROW_PYTHON_LOST << layout.KIND_FLAGS_SHIFT
        cut_kinds = {kind for kind in set(table.kinds) if kind > 0 and kind & lost}
        whole = 0
        for number in self.numbers:
            native, python, kind = table.natives[number], table.pythons[number], table.kinds[number]
            is_cut = python in cut or kind in cut_kinds
            if is_cut or native in amiss:
                yield (counts[number], *amiss.get(native, (False, False, False)), is_cut)
            else:
                whole += counts[number]
        yield whole, False, False, False, False

    def back_trace(self, number: int) -> str:
        """Return the column of that name of a stack."""
        native = self._table.natives[number]
        found = self._back_traces.get(native)
        if found is None:
            tokens = list(map(self._tokens.__getitem__, self._table.native_stacks.words(native)))
            found = self._back_traces[native] = joined_tokens(tokens)
        return found

    def python_trace(self, number: int, tracer: Tracer) -> Optional[str]:
        """Return the column of that name of a stack."""
        table = self._table
        ref, kind = table.pythons[number], table.kinds[number]
        stacks, lost = table.python_stacks, kind < 0 or kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_PYTHON_LOST
        if not lost and not stacks.table.shape(ref):
            return None
        if lost or not stacks.has_frames(ref):
            return tracer.python_trace(self._recording.row(number))
        found = self._python_traces.get(ref)
        if found is None:
            words = map(self._python_words.__getitem__, table.python_stacks.table.words(ref))
            found = self._python_traces[ref] = " < ".join([word for word in words if word])
        return found

    @once
    def _tokens(self) -> "_Tokens":
        return _Tokens(self._recording)

    @once
    def _back_traces(self) -> dict[int, str]:
        return {}

    @once
    def _python_traces(self) -> dict[int, str]:
        return {}

    @once
    def _python_words(self) -> "_PythonWords":
        return _PythonWords(self._table.python_stacks)

    # -- which rows have one stack -------------------------------------------------------------------

    def _merge_same(self) -> dict[int, list[int]]:
        """Return what `merge_stacks` brings together: rows with a Python stack or labels that mean the same."""
        natives = self._same_natives()
        if len(set(natives)) == len(natives):
            return {}
        several = {native for native, number in Counter(natives).items() if number > 1}
        same_kinds = self._same_kinds()
        of_native: dict[tuple[int, int], list[int]] = {}
        for index, native in enumerate(natives):
            if native in several:
                of_native.setdefault((native, same_kinds[self._table.kinds[index]]), []).append(index)
        merged: dict[int, list[int]] = {}
        for (_, kind), rows in of_native.items():
            if len(rows) > 1 and kind >= 0:
                merged.update((same[0], same) for same in self._same_python(rows) if len(same) > 1)
        return merged

    def _same_python(self, rows: list[int]) -> Iterator[list[int]]:
        """Yield rows of one native stack together that have equal Python stacks, and these or labels."""
        table, stacks = self._table, self._table.python_stacks
        refs = [table.pythons[index] for index in rows]
        for positions in stacks.alike(refs):
            if len(positions) > 1:
                of_end: dict[bool, list[int]] = {}
                for index in [rows[position] for position in positions]:
                    ref, kind = table.pythons[index], table.kinds[index]
                    if stacks.has_frames(ref) or self._labels(kind):
                        is_cut = stacks.table.is_truncated(ref) or bool(
                            kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_PYTHON_LOST
                        )
                        of_end.setdefault(is_cut, []).append(index)
                yield from of_end.values()

    def _labels(self, kind: int) -> Any:
        return self._table.labels(kind & _LABELS_MASK)

    def _same_natives(self) -> Sequence[int]:
        """Return the native stack of each row, one number for those that are the same."""
        table, stacks = self._table, self._table.native_stacks
        if not stacks.alike:
            return table.natives
        numbers: dict[Any, int] = {}
        same = {
            ref: numbers.setdefault((bytes(stacks.words(ref)), stacks.is_truncated(ref)), ref)
            for ref in dict.fromkeys(table.natives)
        }
        return [same[ref] for ref in table.natives]

    def _same_kinds(self) -> dict[int, int]:
        """Return for labels, domain and whether it is the overflow row, as rows have them, one number; -1 stands alone."""
        numbers: dict[Any, int] = {}
        same = {-1: -1}
        for kind in set(self._table.kinds):
            if kind >= 0:
                overflow = kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_OVERFLOW
                key = self._labels(kind), kind >> layout.KIND_DOMAIN_SHIFT & _BYTE, overflow
                same[kind] = numbers.setdefault(key, len(numbers))
        return same


class _Tokens(dict[int, str]):
    """The tokens of `back_trace` that words of native stacks are."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __missing__(self, word: int) -> str:
        frame = frame_of(word)
        found = self[word] = token(self._recording.module(frame.module_id), frame)
        return found


class _PythonWords(dict[int, str]):
    """What `python_trace` says of words of Python stacks; nothing of those that are no frames."""

    def __init__(self, stacks: PythonStacks) -> None:
        super().__init__()
        self._stacks = stacks

    def __missing__(self, word: int) -> str:
        frame = self._stacks.frame(word)
        found = self[word] = "" if frame is None else shown_python(frame).brief
        return found


class Groups(Sequence[Group]):
    """Some stacks of one recording, each made into a group when it is asked for."""

    def __init__(self, stacks: Stacks, numbers: Sequence[int]) -> None:
        """Take the numbers of the stacks, in order."""
        self.stacks = stacks
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Group: ...

    @overload
    def __getitem__(self, index: slice) -> "Groups": ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Group, "Groups"]:
        """Return a group, of a slice several."""
        if isinstance(index, slice):
            return Groups(self.stacks, self.numbers[index])
        return self.stacks.group(self.numbers[index])

    def __iter__(self) -> Iterator[Group]:
        return map(self.stacks.group, self.numbers)

    def sorted_by(self, column: str, *, ascending: bool = False) -> "Groups":
        """Return the same in the order of one of `SUMS`; where that is equal, the most estimated live bytes first."""
        numbers = _ordered(sorted(self.numbers), self.stacks.sums("est_bytes"))
        if column != "est_bytes" or ascending:
            numbers.sort(key=self.stacks.sums(column).__getitem__, reverse=not ascending)
        return Groups(self.stacks, numbers)


def _ordered(numbers: list[int], values: list[int]) -> list[int]:
    """Return *numbers* in the order of values[number], the greatest first, equal ones as they stand."""
    from . import _columns  # as in arena.py

    found = _columns.order(values, numbers)
    return sorted(numbers, key=values.__getitem__, reverse=True) if found is None else found


def stacks(sources: tuple[Source, ...]) -> Sequence[Group]:
    """Return one group for each stack and domain, over all sources."""
    if len(sources) > 1:
        return merge_stacks(sources)
    found = Stacks(sources[0])
    return Groups(found, found.numbers)
