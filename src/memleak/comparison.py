"""How the stacks of a snapshot differ from those of an older one, matched by build and place, or by names."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union, overload

from . import layout
from .aside import aside
from .errors import QueryError
from .estimate import normal_quantile
from .grouping import Group, Source, merge_stacks
from .once import once
from .records import LiveSums
from .rows import DiffRow
from .shown import PYTHON, ShownFrame, file_name
from .stacks import MIXED, Tracer

MATCHES = ("place", "name")
NEW, GONE = "new", "gone"
# What changes can be sorted by: found without making a row.
ORDERS = (
    "diff_est_bytes", "diff_est_count", "diff_total_bytes", "diff_total_count", "est_bytes", "est_count",
    "older_est_bytes", "older_est_count", "samples", "older_samples",
)  # fmt: skip

_Z = normal_quantile(0.975)
# What compilers add to the names of copies and parts of a function: the next version has others.
_CLONE = re.compile(r"(\.(constprop|isra|part|cold|lto_priv|llvm)(\.\d+)*| \[clone [^]]*\])+$")
_NO_NAMES = ("__init__.py", "__main__.py")  # of modules: those of their packages name them


class Side(NamedTuple):
    """One of the two snapshots."""

    sources: tuple[Source, ...]
    tracer: Tracer

    def prefetch(self, groups: Iterable[Group]) -> None:
        """Look up the names of all places of *groups* at once."""
        self.tracer.prefetch(place for group in groups for place in group.places(self.sources))

    def samples(self, groups: Iterable[Group]) -> "Counter[tuple[int, float, int]]":
        """Return the live samples of *groups*: time of birth, weight, size."""
        return Counter(
            sample
            for group in groups
            for number, index in group.members
            for sample in self.sources[number].recording.table.sized_samples(index)
        )


class Pair(NamedTuple):
    """What is the same stack on both sides; matched by name it may be several."""

    newer: list[Group]
    older: list[Group]

    def total(self, column: str) -> int:
        """Return a column of the newer side, with `older_` in front of its name of the older one, with `diff_` growth."""
        if column.startswith("diff_"):
            return self.total(column[5:]) - self.total(f"older_{column[5:]}")
        name, groups = (column[6:], self.older) if column.startswith("older_") else (column, self.newer)
        if name in ("total_bytes", "total_count"):
            field = {"total_bytes": "alloc_bytes", "total_count": "alloc_count"}[name]
            values = [getattr(row, field) for group in groups for row in group.recorded]
        else:
            values = [getattr(group.sums, name) for group in groups]
        return round(float(sum(values)))

    @property
    def status(self) -> Optional[str]:
        """`new` when nothing of it was seen live before, `gone` when nothing of it is now."""
        now, before = self.total("samples"), self.total("older_samples")
        return None if bool(now) == bool(before) else NEW if now else GONE


class Change(NamedTuple):
    """Growth of estimated live bytes, newer minus older, with its 95 % limits; None where the samples do not tell."""

    value: int
    se: Optional[int]
    low: Optional[int]
    high: Optional[int]


class Changes(Sequence[DiffRow]):
    """What became of each stack, in order. A row is made, and its stack named, when it is looked at."""

    def __init__(self, newer: Side, older: Side, pairs: Sequence[Pair]) -> None:
        """Take the two sides and what belongs together: see `compare`."""
        self._newer, self._older = newer, older
        self._pairs = pairs

    @once
    def seconds(self) -> Optional[float]:
        """Between two recordings of one process: from the older to the newer. None for others."""
        sides = self._newer.sources, self._older.sources
        if any(len(sources) > 1 for sources in sides) or _process(sides[0][0]) != _process(sides[1][0]):
            return None
        return (sides[0][0].now_cs - sides[1][0].now_cs) / 100

    @property
    def counts(self) -> dict[str, int]:
        """How many stacks hold something on both sides, only on the newer one, only on the older one."""
        found = Counter(
            pair.status or "both" for pair in self._pairs if pair.total("samples") or pair.total("older_samples")
        )
        return {name: found[name] for name in ("both", NEW, GONE)}

    @once
    @aside
    def total(self) -> Change:
        """What became of all live bytes; what pools give out lies in memory that counts as somebody else's."""
        sides = ([group for pair in self._pairs for group in pair[side] if _counts(group)] for side in (0, 1))
        return self._change(Pair(*sides))

    @aside
    def sorted_by(self, by: str) -> "Changes":
        """Return the same, the greatest of one of `ORDERS` first.

        Raises:
            QueryError: there is no such order.
        """
        if by not in ORDERS:
            raise QueryError(f"changes cannot be sorted by {by!r}: they can by {', '.join(ORDERS)}")
        return Changes(self._newer, self._older, sorted(self._pairs, key=lambda pair: pair.total(by), reverse=True))

    # -- looking at it -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> DiffRow: ...

    @overload
    def __getitem__(self, index: slice) -> "Changes": ...

    def __getitem__(self, index: Union[int, slice]) -> Union[DiffRow, "Changes"]:
        """Return a row, of a slice a sequence of rows."""
        if isinstance(index, slice):
            return Changes(self._newer, self._older, self._pairs[index])
        return self._row(self._pairs[index])

    def __iter__(self) -> Iterator[DiffRow]:
        self._prefetch()
        return map(self._row, self._pairs)

    @aside
    def _prefetch(self) -> None:
        self._newer.prefetch(_shown(pair.newer) for pair in self._pairs if pair.newer)
        self._older.prefetch(_shown(pair.older) for pair in self._pairs if not pair.newer)

    @aside
    def _row(self, pair: Pair) -> DiffRow:
        side, groups = (self._newer, pair.newer) if pair.newer else (self._older, pair.older)
        shown = _shown(groups).row(side.sources, side.tracer)
        change, seconds = self._change(pair), self.seconds
        return DiffRow(
            mod_name=shown.mod_name,
            back_trace=shown.back_trace,
            python_trace=shown.python_trace,
            native_trace=shown.native_trace,
            mixed_trace=shown.mixed_trace,
            pid=shown.pid,
            process=shown.process,
            host=shown.host,
            diff_est_bytes=change.value,
            diff_est_bytes_se=change.se,
            diff_est_bytes_low=change.low,
            diff_est_bytes_high=change.high,
            diff_est_count=pair.total("diff_est_count"),
            diff_total_bytes=pair.total("diff_total_bytes"),
            diff_total_count=pair.total("diff_total_count"),
            est_bytes=pair.total("est_bytes"),
            est_count=pair.total("est_count"),
            older_est_bytes=pair.total("older_est_bytes"),
            older_est_count=pair.total("older_est_count"),
            samples=pair.total("samples"),
            older_samples=pair.total("older_samples"),
            exact=self._is_exact(pair),
            labels=shown.labels,
            status=pair.status,
            diff_bytes_per_s=change.value / seconds if seconds else None,
            trace=shown.trace,
            frames=shown.frames,
        )

    # -- how much of it is chance ----------------------------------------------------------------------

    def _change(self, pair: Pair) -> Change:
        value = pair.total("diff_est_bytes")
        variance, samples = self._noise(pair)
        unknown = variance > 0 and self._is_narrow(pair)
        if unknown or (not samples and not self._is_exact(pair)):  # no change was seen: one may have been missed
            return Change(value, None, None, None)
        se = variance**0.5
        return Change(value, round(se), round(value - _Z * se), round(value + _Z * se))

    def _noise(self, pair: Pair) -> tuple[float, int]:
        """Return the variance of a difference, and how many samples tell it.

        What two recordings of one process have in common is in both by the same chance, and cancels out.
        """
        if self.seconds is None:
            sums = [group.sums for part in pair for group in part]
            return sum(one.variance_bytes for one in sums), sum(one.samples for one in sums)
        now, before = self._newer.samples(pair.newer), self._older.samples(pair.older)
        changed = [*(now - before).elements(), *(before - now).elements()]
        found = LiveSums.of((weight, size) for _, weight, size in changed)
        return found.variance_bytes - _of_one_chance(now - before, before - now), found.samples

    def _is_exact(self, pair: Pair) -> bool:
        return all(source.is_exact for source in self._sources(pair))

    def _is_narrow(self, pair: Pair) -> bool:
        domains = {row.domain for part in pair for group in part for row in group.recorded}
        return any(source.narrow(domains) for source in self._sources(pair))

    def _sources(self, pair: Pair) -> list[Source]:
        sides = zip((self._newer, self._older), pair)
        numbers = {(side, number) for side, part in sides for group in part for number, _ in group.members}
        return [side.sources[number] for side, number in numbers]


def _of_one_chance(now: "Counter[tuple[int, float, int]]", before: "Counter[tuple[int, float, int]]") -> float:
    """Return by how much less than both their variances differences vary of samples that stand for more by now.

    Such a sample is one of those that a full live set merged others with. What it was by chance it still is: of its difference,
    W x - w x with odds of w to W, the variance is w (W - w) x^2, and W (W - w) x^2 has that expectation.
    """
    lighter: dict[tuple[int, int], list[float]] = {}
    for (born, weight, size), times in sorted(before.items()):
        lighter.setdefault((born, size), []).extend([weight] * times)
    less = 0.0
    for (born, heavy, size), times in sorted(now.items(), reverse=True):
        weights = lighter.get((born, size), [])
        for _ in range(times):
            at = bisect_left(weights, heavy) - 1
            if at >= 0:
                light = weights.pop(at)
                both = heavy * (heavy - 1) + light * (light - 1)
                less += (both - heavy * (heavy - light)) * size * size
    return less


def compare(newer: Side, older: Side, match: str) -> Changes:
    """Return how each stack changed, the greatest growth of live bytes first; see `Snapshot.diff`."""
    if match not in MATCHES:
        raise QueryError(f"stacks cannot be matched by {match!r}: they can by {', '.join(MATCHES)}")
    pairs: dict[Any, Pair] = {}
    for number, side in enumerate((newer, older)):
        groups = merge_stacks(side.sources, identify=True)
        identities = [group.identity for group in groups] if match == "place" else _names(side, groups)
        for identity, group in zip(identities, groups):
            pair = pairs.get(identity)
            if pair is None:
                pair = pairs[identity] = Pair([], [])
            pair[number].append(group)
    return Changes(newer, older, list(pairs.values())).sorted_by("diff_est_bytes")


def _names(side: Side, groups: list[Group]) -> list[Any]:
    """Return what each stack is in any version of the program: names of functions, and what it was asked under."""
    if not side.tracer.can_name and any(not group.placeless for group in groups):
        raise QueryError("matching by name needs the names of native functions: no symbolizer was given")
    side.prefetch(groups)
    words: dict[ShownFrame, str] = {}
    found = []
    for group in groups:
        row = group.recorded[0]
        frames = side.tracer.frames(row, group.places(side.sources), MIXED)
        chain = tuple([words.get(frame) or words.setdefault(frame, _word(frame)) for frame in frames])
        found.append((row.mod_name, row.labels, row.overflow, row.missing, row.truncated, row.python_truncated, chain))
    return found


def _word(frame: ShownFrame) -> str:
    if frame.kind == PYTHON:
        path = (frame.file or "").split("/")
        file = "/".join(path[-2:]) if path[-1] in _NO_NAMES else path[-1]
        return f"{file}:{frame.function or ''}"
    if not frame.function:
        return f"{file_name(frame.module)}+{frame.vaddr or 0:#x}"
    return _CLONE.sub("", frame.function)


def _shown(groups: Sequence[Group]) -> Group:
    return max(groups, key=lambda group: group.sums.est_bytes)


def _counts(group: Group) -> bool:
    return group.recorded[0].domain <= layout.POOL_DOMAIN


def _process(source: Source) -> tuple[Any, ...]:
    header = source.recording.header
    return header.recording_id, header.boot_id, header.pid, header.start_monotonic_ns
