"""What SQL is asked about: the stacks of each recording of a snapshot, taken apart when somebody asks."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Optional

from .. import _columns, layout
from ..grouping import Group, Source
from ..judgement import Judgement
from ..merging import Groups, Stacks
from ..once import once
from ..pystacks import PythonStacks
from ..records import Module
from ..rows import Row, Word
from ..shown import ShownFrame
from ..stacks import Tracer

_FIRST_BATCH, _LAST_BATCH = 16, 1024


class Sample(NamedTuple):
    """One stack of one recording: what a row of `malloc_sample_info` is made of."""

    sources: tuple[Source]
    group: Group

    @property
    def source(self) -> Source:
        """The recording."""
        return self.sources[0]


class Content:
    """The samples of recordings, numbered from 1, the most estimated live bytes of a recording first.

    As in OceanBase's table each process has rows of its own: a stack of three processes is three rows, with one
    `stack_id` and one `back_trace`.
    """

    def __init__(self, sources: tuple[Source, ...], tracer: Tracer) -> None:
        """Take the recordings, which may be none, and what names frames; nothing is computed yet."""
        self.sources = sources
        self.tracer = tracer
        self._rows: dict[int, Row] = {}
        self._columns: dict[str, list[Any]] = {}
        self._named_to = 0
        self._batch = _FIRST_BATCH

    @once
    def _parts(self) -> list["_Part"]:
        """For each recording its stacks, in order."""
        found, first = [], 1
        for source in self.sources:
            stacks = Stacks(source)
            found.append(_Part(first, source, Groups(stacks, stacks.numbers).sorted_by("est_bytes")))
            first += len(found[-1].groups)
        return found

    def __len__(self) -> int:
        """Return how many samples there are."""
        return sum([len(part.groups) for part in self._parts])

    def sample(self, number: int) -> Sample:
        """Return a sample."""
        part, at = self._place(number)
        return Sample((part.source,), part.groups.stacks.group(at))

    def __iter__(self) -> Iterator[Sample]:
        """Yield every sample of every recording."""
        return map(self.sample, range(1, len(self) + 1))

    def column(self, name: str) -> Sequence[Any]:
        """Return one of the columns of `Facts` for all samples."""
        found = self._columns.get(name)
        if found is None:
            found = []
            for part in self._parts:
                values = part.groups.stacks.facts(name)
                found += [values[at] for at in part.groups.numbers]
            self._columns[name] = found
        return found

    def stack_id(self, number: int) -> int:
        """Return the number of a sample's stack, the same in every process and on every host.

        63 bits of a digest of its places: builds and addresses; files, names and lines.
        """
        part, at = self._place(number)
        return part.stack_id(at)

    @once
    def stack_ids(self) -> list[int]:
        """For each sample the number of its stack."""
        return [part.stack_id(at) for part in self._parts for at in part.groups.numbers]

    @once
    def stacks(self) -> dict[int, int]:
        """For each stack, the first sample that has it."""
        found: dict[int, int] = {}
        for number, stack_id in enumerate(self.stack_ids, 1):
            found.setdefault(stack_id, number)
        return found

    def back_trace(self, number: int) -> str:
        """Return that column of a sample alone."""
        part, at = self._place(number)
        return part.groups.stacks.back_trace(at)

    def python_trace(self, number: int) -> Optional[str]:
        """Return that column of a sample alone."""
        part, at = self._place(number)
        return part.groups.stacks.python_trace(at, self.tracer)

    def histories(self) -> Iterator[list[tuple[float, int]]]:
        """Yield for each sample what it held at earlier moments: (Unix time, estimated live bytes)."""
        for part in self._parts:
            began, past, rows = part.source.began, part.source.recording.table.history, part.groups.stacks.rows
            for at in part.groups.numbers:
                yield [(began + cs / 100, held) for index in rows(at) for cs, held in past(index)]

    def _place(self, number: int) -> tuple["_Part", int]:
        parts = self._parts
        part = parts[bisect_right(self._firsts, number) - 1] if len(parts) > 1 else parts[0]
        return part, part.groups.numbers[number - part.first]

    @once
    def _firsts(self) -> list[int]:
        return [part.first for part in self._parts]

    def row(self, number: int) -> Row:
        """Return a sample with all of its columns."""
        found = self._rows.get(number)
        if found is None:
            self._name_up_to(number)
            sample = self.sample(number)
            judge = self._place(number)[0].judge
            found = self._rows[number] = sample.group.row(sample.sources, self.tracer, judge=judge)
        return found

    def word(self, number: int) -> Word:
        """Return what the growth of a sample means, judged among those of its recording."""
        part, at = self._place(number)
        return part.judge.at((0, at))

    def frames(self, number: int) -> Iterator[tuple[ShownFrame, str]]:
        """Yield the frames of a sample's stack, innermost first, with the build id of a native one's module."""
        self._name_up_to(number)
        sample = self.sample(number)
        places = sample.group.places(sample.sources)
        builds = {(module.path, frame.vaddr): module.build_id for module, frame in places}
        for frame in self.tracer.frames(sample.group.recorded[0], places):
            yield frame, "" if frame.vaddr is None else builds.get((frame.module or "", frame.vaddr), "")

    def modules(self) -> Iterator[Module]:
        """Yield the modules of all recordings."""
        for source in self.sources:
            yield from source.recording.modules

    def is_exact(self, build_id: str, vaddr: int) -> bool:
        """Whether a recorded place is the instruction itself and no return address."""
        return (build_id, vaddr) in self._exact

    @once
    def _exact(self) -> set[tuple[str, int]]:
        found = set()
        for source in self.sources:
            table = source.recording.table
            for ref in dict.fromkeys(table.natives):
                for frame in table.frames(ref)[:1]:
                    if frame.exact:
                        found.add((source.recording.module(frame.module_id).build_id, frame.vaddr))
        return found

    def _name_up_to(self, number: int) -> None:
        """Look up names in batches that grow: a statement may want those of ten rows, or of all."""
        if number <= self._named_to or not self.tracer.can_name:
            return
        batch = {number, *range(self._named_to + 1, self._named_to + self._batch + 1)}
        self._named_to += self._batch
        self._batch = min(4 * self._batch, _LAST_BATCH)
        samples = [self.sample(one) for one in batch if one <= len(self)]
        self.tracer.prefetch(place for sample in samples for place in sample.group.places(sample.sources))


class _Part:
    """The samples of one recording, the first of which has the number *first*."""

    def __init__(self, first: int, source: Source, groups: Groups) -> None:
        self.first = first
        self.source = source
        self.groups = groups
        self.judge = Judgement((source,), lambda: groups)
        self._table = source.recording.table
        self._raw = source.recording.raw
        self._names = _names(source.recording.modules)
        self._python_words = _PythonWords(self._table.python_stacks)
        self._natives: dict[int, bytes] = {}

    def stack_id(self, at: int) -> int:
        table = self._table
        native, kind = table.natives[at], table.kinds[at]
        places = self._natives.get(native)
        if places is None:
            begins, frames = table.native_stacks.span(native)
            places = _columns.places(self._raw, begins, frames, self._names) if frames else b""
            self._natives[native] = places
        lost = kind > 0 and kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_PYTHON_LOST
        python, is_cut = table.pythons[at], bool(lost)
        if python and not lost:
            stacks = table.python_stacks
            places += b"".join(map(self._python_words.__getitem__, stacks.table.words(python)))
            is_cut = stacks.table.is_truncated(python)
        missing = kind < 0
        overflow = not missing and bool(kind >> layout.KIND_FLAGS_SHIFT & layout.ROW_OVERFLOW)
        flags = bytes((table.native_stacks.is_truncated(native), is_cut, overflow, missing))
        return int.from_bytes(blake2b(places, digest_size=8, person=flags).digest(), "little") >> 1


def _names(modules: tuple[Module, ...]) -> bytes:
    """Return what identifies modules anywhere, 10 bytes each by number; the first is for those that are not known."""
    names = ["", *(module.build_id or module.path for module in modules)]
    return b"".join([blake2b(name.encode("utf-8", "surrogateescape"), digest_size=10).digest() for name in names])


class _PythonWords(dict[int, bytes]):
    """What identifies a Python frame anywhere, by its word."""

    def __init__(self, stacks: PythonStacks) -> None:
        self._stacks = stacks

    def __missing__(self, word: int) -> bytes:
        frame = self._stacks.frame(word)
        text = "" if frame is None else "\0".join((frame.file, frame.name, str(frame.line)))
        digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest() if frame else b""
        self[word] = digest
        return digest
