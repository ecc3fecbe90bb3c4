"""The first page of a recording, and the words for what it says.

Names are those of the C structures; `_cs` is centiseconds since the recording began.
"""

import struct
from typing import NamedTuple, Optional

from . import layout
from .layout import IntervalWord

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
        return (
            self.own_cost_ns + self.focus_cost_ns
            if self.widened_x1024
            else self.counters["samples"] * self.sample_cost_ns
        )

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
