"""Bring rows together: those of several recordings that mean the same stack, and those of a group."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Optional

from . import layout
from .estimate import estimate_bytes, is_narrow
from .once import once
from .recording import Recording
from .records import OTHER_LABELS, Frame, Labels, LiveSums, Module, RecordedRow, weighted_median
from .rows import LABEL, Facts, Row, Word
from .shown import LOST_PYTHON, PYTHON, UNKNOWN, ShownFrame, file_name, joined, lines
from .stacks import MIXED, Tracer, back_trace, token

TENANT_ID = 500  # OceanBase's number for memory of the server itself
CTX_ID = 22  # OceanBase's number for memory asked for through libc
CTX_NAMES = ("", "GLIBC", "OPERATOR_NEW", "PYMALLOC_OBJ", "PYMALLOC_MEM", "PYMEM_RAW", "MMAP")
CTX_POOL = "POOL"  # of what is in no total
PYTHON_DOMAINS = frozenset(map(layout.DOMAINS.index, ("pymalloc_obj", "pymalloc_mem")))
MISSING = "(row not in this copy)"
OVERFLOW = "(overflow: no room)"
NO_PYTHON = "(no Python frames)"
NO_LABEL = "(no such label)"
OTHER = "(other)"


class Source:
    """One recording of a snapshot, with what depends on when and where it is read."""

    def __init__(self, recording: Recording, alive: bool) -> None:
        """Ages of a live process's allocations are counted up to when it was read: to decode it may take seconds."""
        header = recording.header
        self.recording = recording
        self.alive = alive
        self.began = header.started_at
        self.now_cs = header.end_cs
        if alive and not header.ended:
            now_ns = recording.read_at_ns or time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            self.now_cs = max(header.end_cs, (now_ns - header.start_monotonic_ns) // 10**7)

    @once
    def svr_ip(self) -> str:
        """`127.0.0.1` for a recording of this machine since it was started, else the host's name."""
        return "127.0.0.1" if self.recording.header.boot_id == _boot_id() else self.recording.header.host_name

    def narrow(self, domains: Iterable[int]) -> bool:
        """Whether gaps were too regular to state an error for rows of these domains.

        Python's domains also hold what the interpreter passed on to malloc, which the other knobs sample.
        """
        header = self.recording.header
        words = [header.initial, header.effective]
        if header.counts_python and not PYTHON_DOMAINS.isdisjoint(domains):
            words.append(header.python_effective)
        return any(is_narrow(*word[:2]) for word in words if word.mode != "off")

    @once
    def steady(self) -> bool:
        """Whether the intervals are the ones that recording began with."""
        header = self.recording.header
        return header.initial == header.effective and header.mode != "off" and not header.governor_changes

    def sample_bytes(self, domains: Iterable[int]) -> Optional[float]:
        """Mean distance of byte samples in these domains, None when it is not known for the whole time or infinite."""
        header = self.recording.header
        if not self.steady:
            return None
        if header.counts_python and not PYTHON_DOMAINS.isdisjoint(domains) and not self.python_is_full:
            return None  # small objects are sampled by count alone
        if header.mode == "full":
            return 0.0
        return header.effective_sample_bytes or None

    @property
    def python_is_full(self) -> bool:
        """Whether each of Python's small objects was recorded, all the time."""
        header = self.recording.header
        return header.python_effective.mode == "full" and not header.python_changed

    @once
    def exact_reasons(self) -> list[str]:
        """Why the numbers of this recording are not exact; empty when they are."""
        return [*self._doubts, *self.recording.incomplete]

    @once
    def is_exact(self) -> bool:
        """Whether the numbers of this recording are exact."""
        return not self._doubts and not self.recording.incomplete  # in this order: the second takes longer to find out

    @once
    def _doubts(self) -> list[str]:
        found = self.recording
        header = found.header
        reasons = []
        if header.initial.mode != "full":
            reasons.append("recording did not begin in full mode")
        elif header.initial != header.effective:
            reasons.append("the knobs were changed after recording began")
        elif header.counts_python and not self.python_is_full:
            changed = "their knobs were changed after recording began"
            why = changed if header.python_changed else "they are not recorded in full mode"
            reasons.append(f"Python's small objects: {why}")
        meaning = dict(layout.COUNTERS)
        reasons += [f"{name}: {number}" for name, number in header.counters.items() if number and meaning[name]]
        if header.state == layout.STATE_OPENING:
            reasons.append("the recording was still being opened")
        if found.torn:
            reasons.append(f"{found.torn} live samples were being changed while they were copied")
        return reasons


class Group:
    """Rows that an answer shows as one.

    Attributes:
        identity: equal for groups of two snapshots that mean the same.
        label: the group's name when it is not a single stack.
        members: (number of the source, index of the row) pairs.
        sums: over the live samples of all members.
        order: ties are shown in this order.
    """

    def __init__(self, identity: Any, order: int, label: Optional[str] = None) -> None:
        """Begin empty."""
        self.identity = identity
        self.order = order
        self.label = label
        self.kind = "stack"
        self.members: list[tuple[int, int]] = []
        self.recorded: list[RecordedRow] = []
        self.sums = LiveSums()
        self.samples: Optional[list[tuple[float, float]]] = None  # (age in s, weight), for threads only

    def add(self, member: tuple[int, int], row: RecordedRow) -> None:
        """Take in one row."""
        self.sums = self.sums + row.live if self.members else row.live
        self.members.append(member)
        self.recorded.append(row)

    @property
    def truncated(self) -> bool:
        """Whether the stack was cut."""
        return self.recorded[0].truncated

    @property
    def python_truncated(self) -> bool:
        """Whether the Python stack was cut."""
        return self.recorded[0].python_truncated

    @property
    def placeless(self) -> bool:
        """Whether there is no stack."""
        return not self.recorded[0].stack

    def has_unknown_frames(self, sources: tuple[Source, ...]) -> bool:
        """Whether the stack goes through a place in no known module."""
        unknown = sources[self.members[0][0]].recording.unknown_frames
        return bool(unknown) and not unknown.isdisjoint(self.recorded[0].stack)

    def places(self, sources: tuple[Source, ...]) -> list[tuple[Module, Frame]]:
        """Return the stack as (module, frame) pairs, innermost first."""
        found = self._places_of(sources, 0)
        # A recording without room for a module's path still has its build id: another may know the path.
        for member in range(1, len(self.members) if self.kind == "stack" else 1):
            if all(module.path for module, _ in found):
                break
            found = [mine if mine[0].path else its for mine, its in zip(found, self._places_of(sources, member))]
        return found

    def _places_of(self, sources: tuple[Source, ...], member: int) -> list[tuple[Module, Frame]]:
        module = sources[self.members[member][0]].recording.module
        return [(module(frame.module_id), frame) for frame in self.recorded[member].stack]

    def facts(self, sources: tuple[Source, ...]) -> Facts:
        """Return the columns that need neither names nor the stack nor quantiles: those of a row that are cheap."""
        if len(self.members) > 1 or self.kind != "stack":
            return self._merged_facts(sources)
        source, row, sums = sources[self.members[0][0]], self.recorded[0], self.sums
        header, began = source.recording.header, source.began
        return Facts(
            source.svr_ip, header.pid, _tenant_id(row.labels), CTX_ID, MISSING if row.missing else row.mod_name,
            _ctx_name(row), sums.samples, sums.bytes, round(sums.est_count), round(sums.est_bytes),
            round(row.alloc_count), row.alloc_bytes, row.peak_bytes, began + row.first_cs / 100,
            began + row.last_cs / 100, header.pid, self._process(header.command), header.host_name, sums.samples,
            source.is_exact, labels_as_json(row.labels),
        )  # fmt: skip

    def _merged_facts(self, sources: tuple[Source, ...]) -> Facts:
        mine = [sources[number] for number in sorted({number for number, _ in self.members})]
        headers = [source.recording.header for source in mine]
        totals = self.kind != "thread"
        row, sums = self.recorded[0], self.sums
        pid = _same(header.pid for header in headers)
        return Facts(
            svr_ip=_same(source.svr_ip for source in mine),
            svr_port=pid,
            tenant_id=_same(_tenant_id(row.labels) for row in self.recorded),
            ctx_id=CTX_ID,
            mod_name=MISSING if row.missing and self.kind == "stack" else _same(row.mod_name for row in self.recorded),
            ctx_name=_same(_ctx_name(row) for row in self.recorded),
            alloc_count=sums.samples,
            alloc_bytes=sums.bytes,
            est_count=round(sums.est_count),
            est_bytes=round(sums.est_bytes),
            total_count=round(sum(row.alloc_count for row in self.recorded)) if totals else None,
            total_bytes=sum(row.alloc_bytes for row in self.recorded) if totals else None,
            peak_bytes=sum(row.peak_bytes for row in self.recorded) if totals else None,
            first_seen=min(self._times(sources, "first_cs")) if totals else None,
            last_seen=max(self._times(sources, "last_cs")) if totals else None,
            pid=pid,
            process=self._process(", ".join(dict.fromkeys(header.command for header in headers))),
            host=_same(header.host_name for header in headers),
            samples=sums.samples,
            exact=all(source.is_exact for source in mine),
            labels=labels_as_json(_same(row.labels for row in self.recorded)),
        )

    def row(
        self, sources: tuple[Source, ...], tracer: Tracer, side: str = MIXED, judge: Optional["Judge"] = None
    ) -> Row:
        """Return the row that is shown; *side* says which frames `trace` and `frames` are, *judge* its verdict."""
        mine = [sources[number] for number in sorted({number for number, _ in self.members})]
        domains = {row.domain for row in self.recorded}
        narrow = any(source.narrow(domains) for source in mine)
        value = estimate_bytes(self.sums, narrow=narrow, sample_bytes=_same(s.sample_bytes(domains) for s in mine))
        single = self.kind == "stack"
        places = self.places(sources) if single else []
        frames = tracer.frames(self.recorded[0], places, side) if single else []
        mixed = frames if side == MIXED else None
        python_trace, native_trace, mixed_trace = self._traces(tracer, places, mixed) if single else (None, None, None)
        row = Row(
            **self.facts(sources)._asdict(),
            back_trace=back_trace(places),
            est_bytes_se=_rounded(value.se),
            est_bytes_low=_rounded(value.low),
            est_bytes_high=_rounded(value.high),
            age_p50=weighted_median(self._ages(sources)),
            python_trace=python_trace,
            native_trace=native_trace,
            mixed_trace=mixed_trace,
            group=self.label,
            trace=lines(frames) or ((NO_PYTHON,) if side == PYTHON and places else ()),
            frames=tuple(frames),
        )
        return row if judge is None else row.judged_by(partial(judge, sources, self))

    def _traces(
        self, tracer: Tracer, places: list[tuple[Module, Frame]], mixed: Optional[list[ShownFrame]]
    ) -> tuple[Optional[str], Optional[str], Optional[str]]:
        """Return the stack as the columns have it: Python, native, mixed; *mixed* if that is known already."""
        row = self.recorded[0]
        python = tracer.python_trace(row)
        native = tracer.native_trace(places) if places else None
        if python is None or not tracer.can_name:
            return python, native, native
        return python, native, joined(tracer.frames(row, places) if mixed is None else mixed)

    def _process(self, names: str) -> str:
        return f"{names} {OVERFLOW}" if self.recorded[0].overflow and self.kind == "stack" else names

    def _times(self, sources: tuple[Source, ...], field: str) -> Iterator[float]:
        for (number, _), row in zip(self.members, self.recorded):
            yield sources[number].began + getattr(row, field) / 100

    def _ages(self, sources: tuple[Source, ...]) -> list[tuple[float, float]]:
        if self.samples is not None:
            return self.samples
        return [
            (max(0, sources[number].now_cs - born) / 100, weight)
            for number, index in self.members
            for born, weight in sources[number].recording.table.samples(index)
        ]


# Says what the growth of a group of rows of these recordings means.
Judge = Callable[[tuple[Source, ...], Group], Word]


def merge_stacks(sources: tuple[Source, ...], *, identify: bool = False) -> list[Group]:
    """Return one group for each stack and domain, over all sources.

    Python frames count with file, name and line: two instructions of one line are the same place.

    Args:
        sources: the recordings.
        identify: give each group an identity that is the same in other snapshots; with several
            sources it always has one.
    """
    groups: dict[Any, Group] = {}
    for number, source in enumerate(sources):
        by_name = identify or len(sources) > 1
        names = [module.build_id or module.path for module in source.recording.modules] if by_name else []
        for index, row in enumerate(source.recording.rows):
            identity: Any = index
            if by_name or row.python_stack or row.labels:
                native: Any = row.stack
                if by_name:
                    native = tuple([(_name(names, frame), frame[1], frame[2]) for frame in row.stack])
                python = row.python_stack, row.python_truncated
                identity = (row.asked, row.labels, row.overflow, row.missing, row.truncated, native, python)
            group = groups.get(identity)
            if group is None:
                group = groups[identity] = Group(identity, len(groups))
            group.add((number, index), row)
    return list(groups.values())


def group_rows(
    sources: tuple[Source, ...], stacks: Sequence[Group], group_by: str, tracer: Tracer
) -> Sequence[Group]:
    """Return *stacks* put together by what their innermost frames, domains or threads have in common."""
    if group_by == "stack":
        return stacks
    if group_by == "thread":
        return _group_threads(sources, stacks)
    groups: dict[Any, Group] = {}
    if group_by in ("function", "file"):
        tracer.prefetch(stack.places(sources)[0] for stack in stacks if stack.recorded[0].stack)
    for stack in stacks:
        identity, label = _identify(sources, stack, group_by, tracer)
        pool = stack.recorded[0].pool
        if pool and group_by != "mod_name":  # in no total: a group of its own
            identity, label = (identity, pool), f"{label} (pool {pool})"
        group = groups.get(identity)
        if group is None:
            group = groups[identity] = Group(identity, len(groups), label)
            group.kind = group_by
        group.members += stack.members
        group.recorded += stack.recorded
        group.sums += stack.sums
    return list(groups.values())


def label_of(labels: Labels, name: str) -> Optional[str]:
    """Return the value of a label; None without one, `(other)` where it is not known whether there is one."""
    if labels == OTHER_LABELS:
        return OTHER
    return next((value for found, value in labels if found == name), None)


def _tenant_id(labels: Labels) -> int:
    for name, value in labels:
        if name == "tenant_id" and value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
    return TENANT_ID


def _ctx_name(row: RecordedRow) -> Optional[str]:
    for name, value in row.labels:
        if name == "ctx":
            return value
    if row.pool:
        return CTX_POOL
    return CTX_NAMES[row.domain] if row.domain < len(CTX_NAMES) else None


def labels_as_json(labels: Optional[Labels]) -> Optional[str]:
    """Return the column `labels`; None without any."""
    return _as_json(labels) if labels else None


@lru_cache(maxsize=1024)
def _as_json(labels: Labels) -> str:
    return json.dumps(dict(labels), ensure_ascii=False)


def _identify(sources: tuple[Source, ...], stack: Group, group_by: str, tracer: Tracer) -> tuple[Any, str]:
    row = stack.recorded[0]
    if group_by.startswith(LABEL):
        found = MISSING if row.missing else OVERFLOW if row.overflow else label_of(row.labels, group_by[len(LABEL) :])
        return found, NO_LABEL if found is None else found
    if group_by == "mod_name":
        label = MISSING if row.missing else row.mod_name
        return label, label
    if group_by.startswith("python_"):
        return _identify_python(row, group_by)
    if not row.stack:
        label = MISSING if row.missing else OVERFLOW if row.overflow else "(no backtrace)"
        return (label,), label
    module, frame = stack.places(sources)[0]
    if group_by == "module":
        return module.build_id or module.path, file_name(module.path)
    module, frame = tracer.without_plumbing(stack.places(sources))[0]
    named = tracer.named(module, frame)
    if group_by == "function":
        label = (named[0].function if named else "") or token(module, frame)
    else:
        label = (named[0].file if named else "") or UNKNOWN
    return label, label


def _identify_python(row: RecordedRow, group_by: str) -> tuple[Any, str]:
    if not row.python_stack:
        label = MISSING if row.missing else OVERFLOW if row.overflow else LOST_PYTHON if row.python_lost else NO_PYTHON
        return (label,), label
    file, name, line = row.python_stack[0][:3]
    if group_by == "python_file":
        return file, file or UNKNOWN
    if group_by == "python_line":
        return (file, name, line), f"{name or UNKNOWN} at {file or UNKNOWN}:{line or '?'}"
    return (file, name), f"{name or UNKNOWN} ({file or UNKNOWN})"


def _group_threads(sources: tuple[Source, ...], stacks: Sequence[Group]) -> list[Group]:
    members: dict[int, dict[int, RecordedRow]] = {}
    for stack in stacks:
        for (number, index), row in zip(stack.members, stack.recorded):
            members.setdefault(number, {})[index] = row
    groups: list[Group] = []
    for number, rows in members.items():
        source = sources[number]
        of_thread: dict[tuple[int, str], list[tuple[int, int, int, int]]] = {}
        for ref, size, weight, born, thread_id, _ in source.recording.live:
            index = source.recording.row_index_of(ref)
            if index in rows:
                of_thread.setdefault((thread_id, rows[index].pool), []).append((size, weight, born, index))
        for (thread_id, pool), samples in of_thread.items():
            thread = source.recording.thread(thread_id)
            label = "(unknown thread)" if thread is None else f"{thread.name or 'thread'} ({thread.tid})"
            label += f" (pool {pool})" if pool else ""
            group = Group((number, thread_id, pool), len(groups), label)
            group.kind = "thread"
            indices = sorted({index for *_, index in samples})
            group.members = [(number, index) for index in indices]
            group.recorded = [rows[index] for index in indices]
            group.sums = LiveSums.of((weight / 1024, size) for size, weight, _, _ in samples)
            group.samples = [
                (max(0, source.now_cs - born) / 100, weight / 1024) for _, weight, born, _ in samples
            ]
            groups.append(group)
    return groups


def _name(names: list[str], frame: Frame) -> str:
    return names[frame[0] - 1] if 0 < frame[0] <= len(names) else ""


def _same(values: Iterable[Any]) -> Any:
    """Return the value that all of *values* are, None when they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _rounded(value: Optional[float]) -> Optional[int]:
    return None if value is None else round(value)


def _boot_id() -> Optional[bytes]:
    """Return this machine's boot id, which the recordings made since carry."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return bytes.fromhex(os.read(fd, 64).decode("ascii").strip().replace("-", ""))
    except ValueError:
        return None
    finally:
        os.close(fd)
