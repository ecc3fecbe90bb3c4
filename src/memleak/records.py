"""What stands in a recording, as plain immutable values.

`memleak.recording` makes these from bytes that it has checked. Names are those of the C structures;
`_cs` is centiseconds since the recording began.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional, TypeVar, Union, overload

from . import layout
from .layout import IntervalWord
from .once import once

STATES = ("opening", "recording", "stopped", "exited")
DOORS = ("unknown", "preload", "import")
# Index = enum mlf_python.
PYTHON_STATES = (
    "frames not read",
    "frames read",
    "frames not read, this version's are not known",
    "frames not read, it is built without the GIL",
    "frames not read, they were not what the interpreter itself says",
    "frames not read, switched off",
)
# Of native allocations, where they are left out.
NOT_SAMPLED = "allocations not sampled: only what is asked for through Python's allocators is"
# Index = enum mlf_limit.
LIMITS = ("", "the cgroup's limit", "RLIMIT_AS", "RLIMIT_DATA", "the machine's memory")
_RELEASE_LEVELS = {0xA: "a", 0xB: "b", 0xC: "rc"}


class Header(NamedTuple):
    """The first page: identity, clocks, knobs, counters. Fields as in `struct mlf_header`."""

    magic: int
    version: int
    header_bytes: int
    file_bytes: int
    room_used: int
    room_backed: int
    segment_count: int
    state: int
    recording_id: int
    run_id: int
    pid: int
    parent_pid: int
    start_ticks: int
    parent_recording_id: int
    pid_namespace: int
    uid: int
    clock_ticks_per_s: int
    start_realtime_ns: int
    start_monotonic_ns: int
    boot_id: bytes
    host_name: str
    command: str
    core_build_id: bytes
    core_build_id_bytes: int
    requested: IntervalWord
    effective: IntervalWord
    requested_sample_bytes: int
    effective_sample_bytes: int
    initial: IntervalWord
    max_frames: int
    history_unit_cs: int
    history_levels: int
    history_slots: int
    history_level_shift: int
    size_always_bytes: int
    mmap_always_bytes: int
    sample_cost_ns: int
    heartbeat_cs: int
    stopped_at_cs: int
    overflow_row: int
    door: int
    counters: dict[str, int]
    python_version: int
    python_state: int
    python_requested: IntervalWord  # of Python's small-object domains
    python_effective: IntervalWord
    native_state: int
    limit_kind: int
    limit_seen_cs: int  # when the next three were looked at; 0 = never
    limit_bytes: int  # 0 = nothing bounds its memory that is known
    limit_used_bytes: int  # of that, by whoever shares it
    rss_bytes: int
    own_cost_ns: int
    budget_ppm: int  # of the CPU time used; 0 = no bound
    governor_changes: int
    widened_x1024: int  # 0 = written by a core without a governor
    governor_state: int  # enum mlf_governor
    label_state: int  # enum mlf_labels
    focus_bytes: int  # 0 = written by a core without a focus
    focus_requested: int  # words, see memleak_format.h; 0 = none was ever asked for
    focus_effective: int
    focus_matched: int
    focus_cost_ns: int
    focus_requested_text: bytes  # up to its NUL
    focus_effective_text: bytes

    @classmethod
    def unpack(cls, page: bytes) -> "Header":
        """Decode a header; only its length must have been checked."""
        raw = dict(zip(layout.HEADER.codes, layout.HEADER.format.unpack_from(page)))
        for name in ("requested", "effective", "initial", "python_requested", "python_effective"):
            raw[name] = IntervalWord.unpack(raw[name])
        slots = struct.unpack(f"<{layout.COUNTER_SLOTS}Q", raw["counters"])
        raw["counters"] = {name: slots[index] for index, (name, _) in enumerate(layout.COUNTERS)}
        raw["host_name"] = text(raw["host_name"])
        raw["command"] = text(raw["command"])
        for name in ("focus_requested_text", "focus_effective_text"):
            raw[name] = raw[name].split(b"\0", 1)[0]
        raw["core_build_id"] = raw["core_build_id"][: raw["core_build_id_bytes"]]
        return cls(**raw)

    @property
    def state_name(self) -> str:
        """The state in a word: opening, recording, stopped or exited."""
        return STATES[self.state] if self.state < len(STATES) else f"state {self.state}"

    @property
    def door_name(self) -> str:
        """How the core came into the process: preload, import, or unknown (an early writer)."""
        return DOORS[self.door] if self.door < len(DOORS) else f"door {self.door}"

    @property
    def python(self) -> str:
        """Whether Python frames are read, in words; empty when no interpreter was seen."""
        if self.python_state == layout.PYTHON_NONE and not self.python_version:
            return ""
        state = self.python_state
        words = PYTHON_STATES[state] if state < len(PYTHON_STATES) else f"frames: state {state}"
        if state == layout.PYTHON_FRAMES and self.counters["python_subinterpreter"]:
            words += ", sub-interpreters: native frames only"
        if self.label_state == layout.LABELS_SELF_TEST_FAILED:
            words += ", labels not followed: they were not what had been set"
        return f"{version_name(self.python_version)}: {words}" if self.python_version else words

    @property
    def counts_python(self) -> bool:
        """Whether Python's small objects are sampled, by knobs of their own."""
        return self.python_state == layout.PYTHON_FRAMES and self.python_effective.max_sample_interval > 0

    @property
    def counts_native(self) -> bool:
        """Whether allocations are sampled that do not come by Python's allocators, and mappings."""
        return self.native_state == layout.NATIVE_SAMPLED

    @property
    def python_changed(self) -> bool:
        """Whether Python's knobs were asked for anew after recording began."""
        # They and the others began with the same epoch.
        return self.python_effective.epoch != self.initial.epoch

    @property
    def ended(self) -> bool:
        """Whether the recording was closed by `stop()` or by the end of the program."""
        return self.state in (layout.STATE_STOPPED, layout.STATE_EXITED)

    @property
    def limit_name(self) -> str:
        """What bounds the memory of the process, in words; empty when that is not known."""
        return limit_name(self.limit_kind)

    @property
    def limit_share(self) -> Optional[float]:
        """How much of the limit was used when it was last looked at, 1.0 for all of it; None when there is none."""
        return self.limit_used_bytes / self.limit_bytes if self.limit_seen_cs and self.limit_bytes else None

    @property
    def cost_ns(self) -> int:
        """What the samples have cost, in nanoseconds of CPU; of an early core an estimate by their number."""
        return self.own_cost_ns + self.focus_cost_ns if self.widened_x1024 else self.counters["samples"] * self.sample_cost_ns

    @property
    def governor(self) -> "Governor":
        """What bounds the cost, and what that does to the requested knobs."""
        return Governor(
            self.budget_ppm / 1e6,
            max(self.widened_x1024, 1024) / 1024,
            self.governor_state == layout.GOVERNOR_WIDEST,
            self.governor_state != layout.GOVERNOR_NONE,
        )

    @property
    def focus(self) -> "Focus":
        """The part that is recorded wholly: what was asked for, and what is in force."""
        effective = self.focus_effective_text
        if self.focus_effective & 0xFFFFFFFF != layout.focus_check(effective, self.focus_effective >> 32):
            effective = b""  # none yet, or it is just being written
        return Focus(
            text(self.focus_requested_text) if self.focus_requested else "",
            text(effective),
            self.focus_requested == self.focus_effective,
            self.focus_matched,
        )

    @property
    def started_at(self) -> float:
        """When recording began, in seconds since the epoch."""
        return self.start_realtime_ns / 1e9

    @property
    def end_cs(self) -> int:
        """The last moment the recording knows of: its last sampled call, a look at the limit, or its end."""
        return max(self.heartbeat_cs, self.limit_seen_cs, self.stopped_at_cs if self.ended else 0)

    @property
    def duration_s(self) -> float:
        """Seconds from the beginning to `end_cs`."""
        return self.end_cs / 100

    @property
    def mode(self) -> str:
        """The mode in effect: off, normal or full."""
        return self.effective.mode


class Governor(NamedTuple):
    """How much sampling may cost, and how much wider than requested the intervals are because of that."""

    budget: float  # share of the CPU time used; 0.0 = no bound
    widened: float  # 1.0: as requested
    at_its_widest: bool  # and samples still cost more than the budget
    acts: bool  # False when there is nothing it may widen: no budget, full, off

    def __str__(self) -> str:
        """Return it in words: budget 1 %: intervals 12 x wider than requested."""
        if not self.budget:
            return "no budget"
        share = f"budget {100 * self.budget:g} %"
        if not self.acts:
            return f"{share}: nothing to widen"
        if self.at_its_widest:
            return f"{share}: intervals at their widest, and the cost above it"
        return f"{share}: intervals {f'{self.widened:.3g} x wider than' if self.widened > 1 else 'as'} requested"


class Focus(NamedTuple):
    """The part of the allocations that is recorded wholly, as `module=NAME`, `label=NAME=VALUE` or `mod=NAME`."""

    requested: str  # empty: none
    effective: str
    adopted: bool  # what is requested is in force
    matched: int  # allocations since it was adopted that belong to it

    def __str__(self) -> str:
        """Return it in words: focus module=libfoo.so: 1,234 allocations recorded wholly."""
        words = f"{self.effective or 'none'}"
        if self.effective:
            words += f": {self.matched:,} allocations, all of them recorded"
        return words if self.adopted else f"{words}; requested {self.requested or 'none'}, not adopted"


class Segment(NamedTuple):
    """One directory entry. Fields as in `struct mlf_segment`."""

    kind: int
    version: int
    order: int
    offset: int
    bytes: int
    capacity: int
    record_bytes: int


class Frame(NamedTuple):
    """One frame of a stack: a module's number and a virtual address in it, as addr2line takes it.

    The address is a return address unless `exact`. Module 0 means the place is in no known module.
    """

    module_id: int
    vaddr: int
    exact: bool


def frame_of(word: int) -> Frame:
    """Return the frame that a word of a stack is."""
    exact = bool(word & layout.FRAME_EXACT)
    return Frame(word >> layout.FRAME_MODULE_SHIFT, word & layout.FRAME_VADDR_MASK, exact)


class PythonFrame(NamedTuple):
    """One frame of a Python stack. File and name are empty when its code could not be stored.

    Two are equal when they stand for the same place in the same source, in whichever process.
    """

    file: str
    name: str  # qualified, but for CPython 3.9 and 3.10
    line: Optional[int]  # None when not known, or when the instruction has none
    entry: bool  # the interpreter was entered anew for this frame
    empty_runs: int = 0  # runs of the interpreter further in that have no frame (yet, or any more)
    begun: bool = True  # False: it was being entered, and `line` is where its code begins


class Module(NamedTuple):
    """One loaded object. `id` counts from 1; a module that was never completed has an empty path."""

    id: int
    path: str
    build_id: str  # hexadecimal, empty when it has none
    flags: int
    vaddr_low: int
    vaddr_high: int
    loaded_cs: int
    unload_generation: int
    coverage: int = layout.COVERAGE_UNKNOWN  # enum mlf_coverage, when the core last looked
    slots_here: int = 0  # addresses of allocation functions it keeps that lead to our hooks
    slots_elsewhere: int = 0
    holder: int = 0  # id of a module that those elsewhere lead to; 0 = none

    @property
    def is_main(self) -> bool:
        """Whether this is the program itself."""
        return bool(self.flags & layout.MODULE_MAIN)


UNKNOWN_MODULE = Module(0, "", "", 0, 0, 0, 0, 0)


class Thread(NamedTuple):
    """One thread of the program. `id` counts from 1; `name` is empty when not known."""

    id: int
    tid: int
    first_cs: int
    last_cs: int  # of its last sample; 0 = not known
    samples: int
    name: str
    last_row: int = 0  # ref of the row of its last sample; 0 = not known


class Mark(NamedTuple):
    """What the process held when it had come near its limit: `level_percent` of it was passed on the way up."""

    cs: int
    level_percent: int
    limit_kind: int
    limit_bytes: int
    used_bytes: int  # of the limit, by whoever shares it
    rss_bytes: int  # of the process alone
    live_bytes: int  # estimated, of all rows
    rows: tuple[tuple[int, int], ...]  # (ref of a row, estimated live bytes), the largest first

    @property
    def limit_name(self) -> str:
        """What bounds the memory, in words."""
        return limit_name(self.limit_kind)


class Pool(NamedTuple):
    """An allocator of the program's own, of which it has told the core. `number` counts from 1."""

    number: int
    name: str
    regions: int  # stretches of memory that it hands out in pieces
    capacity_bytes: int  # of these, exact
    regions_ended: int


class PoolRegion(NamedTuple):
    """A stretch of memory that a pool hands out in pieces. `number` counts from 1."""

    number: int
    pool: int
    bytes: int
    begun_cs: int


class RawMismatch(NamedTuple):
    """Sampled blocks of one row that one stack freed another way than they were allocated."""

    kind: int  # enum mlf_mismatch_kind
    row: int  # ref of the row that they were allocated in
    stack: tuple["Frame", ...]  # who freed them, innermost first
    truncated: bool
    python_stack: tuple["PythonFrame", ...]
    freed_pool: int  # number of the pool that they were freed to; 0 = to none
    thread: int  # that freed the latest
    first_cs: int
    last_cs: int
    size_bytes: int  # of the latest: as allocated
    freed_bytes: int  # and as said when it was freed; 0 where nothing was said
    samples: int  # of such blocks
    est_count: float  # what they stand for
    target: Optional["Frame"]  # of new and free: the stub of free() that was called, if there was one


class Gauge(NamedTuple):
    """A count of the program's business: open tables, sessions. `value` is None while it was never set.

    `history` has (when it was so, cs; the value), oldest first, at the moments that histories of rows have.
    """

    name: str
    value: Optional[int]
    first_cs: int  # when it was first set
    set_cs: int  # when it was last set, be it to the same value
    changed_cs: int
    history: tuple[tuple[int, int], ...]
    from_outside: bool  # made by a reader of the file: `memleak gauge`


class LedgerEntry(NamedTuple):
    """One look at what was resident and what the allocators held; fields as in `struct mlf_ledger`, bytes."""

    cs: int
    threads: int
    anonymous_bytes: int
    file_bytes: int
    shared_bytes: int
    swapped_bytes: int
    locked_bytes: int
    page_table_bytes: int
    native_bytes: int
    large_bytes: int
    python_bytes: int
    mapped_bytes: int
    python_arena_bytes: int
    own_bytes: int
    heap_state: int  # enum mlf_heap
    heap_cs: int  # when the C library was asked; 0 = never
    heap_us: int
    heap_bytes: int
    heap_used_bytes: int
    heap_free_bytes: int
    heap_fast_bytes: int
    heap_top_bytes: int
    heap_mapped_bytes: int

    @property
    def rss_bytes(self) -> int:
        """All that was resident."""
        return self.anonymous_bytes + self.file_bytes + self.shared_bytes


class Pins(NamedTuple):
    """Who held pages of the C library's heaps in which little else was live, at the last look. Estimates, bytes."""

    cs: int
    regions: int  # with live blocks, aligned, of `region_bytes`
    sparse_regions: int  # less than a quarter of these is live
    region_bytes: int
    live_bytes: int
    sparse_bytes: int  # live in sparse regions
    occupied_bytes: int  # pages with something live, as if blocks lay at random in their region
    sparse_occupied_bytes: int
    rows: tuple[tuple[int, int, int], ...]  # (ref of a row, live in sparse regions, its part of their pages)


class LiveSums(NamedTuple):
    """Sums over live samples: everything that estimates, errors and intervals need.

    `w` is a sample's weight, `x` its size in bytes.
    """

    samples: int = 0
    bytes: int = 0  # sum of x: as sampled, unscaled
    est_count: float = 0.0  # sum of w
    est_bytes: float = 0.0  # sum of w x
    variance_count: float = 0.0  # sum of w (w - 1)
    variance_bytes: float = 0.0  # sum of w (w - 1) x^2
    square_count: float = 0.0  # sum of w^2
    square_bytes: float = 0.0  # sum of (w x)^2
    heaviest: tuple[float, int] = (1.0, 0)  # (w, x) of the sample that adds most to variance_bytes

    @classmethod
    def of(cls, samples: Iterable[tuple[float, int]]) -> "LiveSums":
        """Sum over (weight, size in bytes) pairs."""
        number = total = 0
        heaviest, most = (1.0, 0), 0.0
        count = value = variance_count = variance_bytes = square_count = square_bytes = 0.0
        for w, x in samples:
            number += 1
            total += x
            count += w
            value += w * x
            variance_count += w * (w - 1)
            variance_bytes += w * (w - 1) * x * x
            square_count += w * w
            square_bytes += w * w * x * x
            if w * (w - 1) * x * x > most:
                heaviest, most = (w, x), w * (w - 1) * x * x
        sums = (count, value, variance_count, variance_bytes, square_count, square_bytes)
        return cls(number, total, *sums, heaviest)

    def __add__(self, other: "LiveSums") -> "LiveSums":  # type: ignore[override]
        """Add field by field; of the two heaviest samples the heavier is kept."""
        return LiveSums(
            self.samples + other.samples,
            self.bytes + other.bytes,
            self.est_count + other.est_count,
            self.est_bytes + other.est_bytes,
            self.variance_count + other.variance_count,
            self.variance_bytes + other.variance_bytes,
            self.square_count + other.square_count,
            self.square_bytes + other.square_bytes,
            max(self.heaviest, other.heaviest, key=lambda s: s[0] * (s[0] - 1) * s[1] * s[1]),
        )


# (name, value) pairs, sorted by name.
Labels = tuple[tuple[str, str], ...]
OTHER_LABELS: Labels = (("other", f"more than {layout.LABEL_SETS} sets of labels"),)


def parse_labels(raw: bytes) -> Labels:
    """Decode a set of labels from its lines name=value."""
    pairs = (line.partition("=") for line in raw.decode("utf-8", "replace").split("\n"))
    return tuple(sorted({text(name.encode()): text(value.encode()) for name, _, value in pairs if name}.items()))


# One sampled allocation that had not been freed: row_ref, size_bytes, weight_x1024, born_cs, thread, layer.
# A plain tuple, because there are up to hundreds of thousands. `row_ref` leads to its row.
LiveSample = tuple[int, int, int, int, int, int]


class RecordedRow(NamedTuple):
    """All allocations of one kind at one place. Counters are cumulative; `live` sums what is left."""

    ref: int
    key: int
    domain: int
    overflow: bool
    missing: bool  # stands for rows that live samples name and this copy does not hold
    stack: tuple[Frame, ...]  # innermost first
    truncated: bool
    python_stack: tuple[PythonFrame, ...]  # innermost first
    python_truncated: bool
    label_set: int
    first_cs: int
    last_cs: int
    alloc_samples: int
    freed_samples: int
    alloc_count: float  # estimated
    freed_count: float
    alloc_bytes: int  # estimated
    freed_bytes: int
    peak_bytes: int
    peak_cs: int
    lost_samples: int
    history: Sequence[tuple[int, int]]  # (when it was so, cs; estimated live bytes), oldest first
    live: LiveSums
    labels: Labels = ()
    pool: str = ""  # name of the pool that gives these out, within memory of other rows; empty: none

    @property
    def in_totals(self) -> bool:
        """Whether it counts in totals: what a pool gives out lies in memory that counts as somebody else's."""
        return not self.pool

    @property
    def asked(self) -> Union[int, str]:
        """What the program asked through, the same in recordings of different processes."""
        return self.pool or self.domain

    @property
    def python_lost(self) -> bool:
        """Whether there is a Python stack of which nothing is in the recording."""
        return self.python_truncated and not self.python_stack

    @property
    def mod_name(self) -> str:
        """What the program asked through, in OceanBase's column: glibc_malloc, …, a pool; or what its label says."""
        if self.pool:
            return self.pool
        for name, value in self.labels:
            if name == "mod":
                return value
        return layout.DOMAINS[self.domain] if self.domain < len(layout.DOMAINS) else f"domain_{self.domain}"


def text(raw: bytes) -> str:
    """Decode a name from a recording for display: up to the first NUL, control characters replaced."""
    decoded = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in decoded)


def limit_name(kind: int) -> str:
    """Return what bounds the memory of a process, in words."""
    return LIMITS[kind] if kind < len(LIMITS) else f"limit {kind}"


def version_name(version: int) -> str:
    """Return PY_VERSION_HEX as people write it: 3.12.1, 3.14.0rc2."""
    level = _RELEASE_LEVELS.get(version >> 4 & 15)
    suffix = f"{level}{version & 15}" if level else ""
    return f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}{suffix}"


class History(Sequence[tuple[int, int]]):
    """What a row held at earlier moments, (cs, estimated live bytes), the oldest first; decoded when it is looked at.

    Equal to any sequence of the same points.
    """

    def __init__(self, raw: bytes, at: int, header: Header, present: tuple[int, int]) -> None:
        """Take the bytes of a recording, in which its slots begin at *at*, and what to say if they are empty."""
        self._raw = raw
        self._at = at
        self._header = header
        self._present = present

    @once
    def _points(self) -> tuple[tuple[int, int], ...]:
        return decode_history(self._raw, self._at, self._header) or (self._present,)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[int, int], ...]: ...

    def __getitem__(self, index: Union[int, slice]) -> Any:
        """Return a point, of a slice several."""
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._points)

    def __eq__(self, other: object) -> bool:
        return self._points == tuple(other) if isinstance(other, (History, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._points)

    def __repr__(self) -> str:
        return repr(self._points)


def decode_history(raw: bytes, at: int, header: Header) -> tuple[tuple[int, int], ...]:
    """Merge the levels of one row's history into (cs, live bytes) points in order of time.

    A word says what the value was when its period ended, so a period that is still running counts
    as ending now. Where levels overlap, the finer one is believed: the coarser ones are written when the
    next tick begins, so of the tick of the latest change they do not know yet.

    Args:
        raw: bytes that hold its words.
        at: where in these they begin.
        header: which says how many there are, and what they mean.

    Raises:
        IndexError: they do not lie in these bytes.
    """
    from ._columns import history  # here, as in arena.py, and so, for it is 20,000 times

    return history(
        raw, at, header.history_levels, header.history_slots, header.history_unit_cs, header.history_level_shift, header.end_cs
    )


def gauge_value(word: int) -> int:
    """Return the value that 40 bits of a gauge's history mean."""
    bits = layout.GAUGE_MANTISSA_BITS
    exponent = word >> bits & (1 << layout.GAUGE_SIGN_BIT - bits) - 1
    magnitude = (word & (1 << bits) - 1) << min(exponent, 31)
    return -magnitude if word >> layout.GAUGE_SIGN_BIT & 1 else magnitude


def gauge_word(value: int) -> int:
    """Return the 40 bits of a gauge's history that are nearest to a value towards 0."""
    bits = layout.GAUGE_MANTISSA_BITS
    magnitude = abs(value)
    exponent = max(0, magnitude.bit_length() - bits)
    return int(value < 0) << layout.GAUGE_SIGN_BIT | exponent << bits | magnitude >> exponent


Number = TypeVar("Number", int, float)


def weighted_median(values: Sequence[tuple[Number, float]]) -> Optional[Number]:
    """Return the value at half of the total weight of (value, weight) pairs; None if there are none."""
    if not values:
        return None
    if len(values) == 1:
        return values[0][0]
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]
