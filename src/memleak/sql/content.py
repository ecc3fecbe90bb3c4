"""What SQL is asked about: the stacks of each recording of a snapshot, taken apart when somebody asks."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from ..grouping import Group, Source, merge_stacks
from ..once import once
from ..records import Frame, Module, PythonFrame, RecordedRow
from ..rows import Row
from ..shown import ShownFrame
from ..stacks import Tracer, back_trace

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
        self._named_to = 0
        self._batch = _FIRST_BATCH

    @once
    def samples(self) -> list[Sample]:
        """Every stack of every recording."""
        found = []
        for source in self.sources:
            groups = merge_stacks((source,))
            groups.sort(key=lambda group: (-group.sums.est_bytes, group.order))
            found += [Sample((source,), group) for group in groups]
        return found

    @once
    def stack_ids(self) -> list[int]:
        """For each of `samples` the number of its stack, the same in every process and on every host.

        63 bits of a digest of its places: builds and addresses; files, names and lines.
        """
        words = {id(source): _Words(source.recording.modules) for source in self.sources}
        return [_stack_id(sample.group.recorded[0], words[id(sample.source)]) for sample in self.samples]

    @once
    def stacks(self) -> dict[int, int]:
        """For each stack, the first sample that has it."""
        found: dict[int, int] = {}
        for number, stack_id in enumerate(self.stack_ids, 1):
            found.setdefault(stack_id, number)
        return found

    def back_trace(self, number: int) -> str:
        """Return that column of a sample alone."""
        found = self._rows.get(number)
        if found is not None:
            return found.back_trace
        sample = self.samples[number - 1]
        return back_trace(sample.group.places(sample.sources))

    def row(self, number: int) -> Row:
        """Return a sample with all of its columns."""
        found = self._rows.get(number)
        if found is None:
            self._name_up_to(number)
            sample = self.samples[number - 1]
            found = self._rows[number] = sample.group.row(sample.sources, self.tracer)
        return found

    def frames(self, number: int) -> Iterator[tuple[ShownFrame, str]]:
        """Yield the frames of a sample's stack, innermost first, with the build id of a native one's module."""
        sample = self.samples[number - 1]
        builds = {(module.path, frame.vaddr): module.build_id for module, frame in sample.group.places(sample.sources)}
        for frame in self.row(number).frames:
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
        return {
            (source.recording.module(frame.module_id).build_id, frame.vaddr)
            for source in self.sources
            for row in source.recording.rows
            for frame in row.stack[:1]
            if frame.exact
        }

    def _name_up_to(self, number: int) -> None:
        """Look up names in batches that grow: a statement may want those of ten rows, or of all."""
        if number <= self._named_to or not self.tracer.can_name:
            return
        batch = {number, *range(self._named_to + 1, self._named_to + self._batch + 1)}
        self._named_to += self._batch
        self._batch = min(4 * self._batch, _LAST_BATCH)
        samples = [self.samples[one - 1] for one in batch if one <= len(self.samples)]
        self.tracer.prefetch(place for sample in samples for place in sample.group.places(sample.sources))


class _Words(dict[Frame, bytes]):
    """What identifies a frame of one recording anywhere."""

    def __init__(self, modules: tuple[Module, ...]) -> None:
        names = ["", *(module.build_id or module.path for module in modules)]
        self._names = [blake2b(name.encode("utf-8", "surrogateescape"), digest_size=10).digest() for name in names]

    def __missing__(self, frame: Frame) -> bytes:
        module = frame.module_id if frame.module_id < len(self._names) else 0
        word = self[frame] = self._names[module] + frame.vaddr.to_bytes(6, "little")
        return word


def _stack_id(row: RecordedRow, words: _Words) -> int:
    places = b"".join(map(words.__getitem__, row.stack))
    if row.python_stack:
        places += b"".join(map(_python_word, row.python_stack))
    flags = bytes((row.truncated, row.python_truncated, row.overflow, row.missing))
    return int.from_bytes(blake2b(places, digest_size=8, person=flags).digest(), "little") >> 1


@lru_cache(maxsize=1 << 16)
def _python_word(frame: PythonFrame) -> bytes:
    text = "\0".join((frame.file, frame.name, str(frame.line)))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
