"""What this process's own recording says: snapshot() and status()."""

import os
from contextlib import suppress
from typing import NamedTuple, Optional

# Reading and coverage use these, and _columns. Loaded before the core looks at what is loaded, they are among what
# it looks at, and their memory is in the estimate and in the process's own figures alike.
import elftools.elf.elffile
import elftools.elf.hash  # noqa: F401

from . import _native, config, coverage, layout, loaded, own
from .aside import aside
from .config import Knobs
from .coverage import Coverage
from .errors import CoreError, TargetError
from .estimate import Estimate, estimate_bytes
from .grouping import Source
from .query import Snapshot
from .recording import Recording
from .records import NOT_SAMPLED, Focus, Governor, LiveSums
from .units import size

with suppress(ImportError):  # where the core is missing, this may be, too; status() says so
    from . import _columns  # noqa: F401

_STATES = ("not started", "recording", "stopped", "forked: not open yet")


class Status(NamedTuple):
    """How this process is traced. Its text is for people.

    Everything from `requested` to `coverage` is of the last recording, and None, empty or 0 while there
    is none.

    Attributes:
        state: "not started", "recording", "stopped", or "forked: not open yet" (a child that does not trace).
        why: why it is not traced, or what is amiss although it is; empty when nothing is.
        door: how the core came into the process: "preload", "import", or None when it could not be loaded.
        pid: of this process.
        mode: off, normal or full, of the effective knobs.
        requested: the knobs that were asked for.
        effective: the knobs in force.
        recording: path of the recording, also when it is None because the recording is `private`.
        private: whether it is in memory that no other process can read.
        samples: how many were taken.
        lost: what the answers lack: counter -> number, without those that are 0.
        exact: whether the numbers are exact.
        exact_reasons: why they are not.
        cost_s: CPU seconds that taking the samples cost.
        cost_share: the same as a share of the time since the recording began; None in its first moment.
        governor: how much sampling may cost, and how much wider than requested the intervals are because of that.
        focus: the part that is recorded wholly, requested and in force.
        python: version of the interpreter and whether its frames are read, in words.
        counts_python: whether its small objects are sampled, by the knobs whose names begin with "python".
        counts_native: whether allocations are sampled that do not come by Python's allocators, and mappings.
        coverage: which loaded objects are seen.
        live: estimate of the live bytes, mappings included.
        live_malloc: the same without mappings and without what Python cuts from its arenas, which are mappings. None
            when native allocations are not sampled: then it would not be what malloc counts.
        malloc_bytes: bytes in use as the C library's allocator counts them; None when it cannot tell.
        anonymous_bytes: memory in RAM that belongs to no file; None when it may not be read. This and
            `malloc_bytes` contain what was allocated before tracing began, the estimates do not.
    """

    state: str
    why: str
    door: Optional[str]
    pid: int
    mode: Optional[str]
    requested: Optional[Knobs]
    effective: Optional[Knobs]
    recording: Optional[str]
    private: bool
    samples: int
    lost: dict[str, int]
    exact: bool
    exact_reasons: tuple[str, ...]
    cost_s: float
    cost_share: Optional[float]
    governor: Optional[Governor]
    focus: Optional[Focus]
    python: Optional[str]
    counts_python: bool
    counts_native: bool
    coverage: Optional[Coverage]
    live: Optional[Estimate]
    live_malloc: Optional[Estimate]
    malloc_bytes: Optional[int]
    anonymous_bytes: Optional[int]

    def __str__(self) -> str:
        """Return all of it in lines."""
        door = f" through the {self.door} door" if self.door and self.mode else ""
        lines = [f"memleak: {self.state}{door}, pid {self.pid}"]
        if self.why:
            lines.append(f"why        {self.why}")
        if self.requested and self.effective and self.live and self.coverage:
            lines.append(f"recording  {self.recording or 'in private memory'}")
            lines.append(f"knobs      {_knobs(self.effective, self.counts_python)}")
            if self.requested != self.effective:
                lines.append(f"requested  {_knobs(self.requested, self.counts_python)}")
            share = "" if self.cost_share is None else f", {100 * self.cost_share:.3f} % of the time"
            if self.focus and (self.focus.requested or self.focus.effective):
                lines.append(f"focus      {self.focus}")
            of_malloc = f"; of malloc {_estimate(self.live_malloc)}" if self.live_malloc else ""
            lines += [
                f"live       {_estimate(self.live)}{of_malloc}",
                *([] if self.counts_native else [f"native     {NOT_SAMPLED}"]),
                f"samples    {self.samples:,} taken, {self.live.samples:,} live",
                f"lost       {', '.join(f'{name} {number:,}' for name, number in self.lost.items()) or 'nothing'}",
                f"exact      {'yes' if self.exact else 'no: ' + '; '.join(self.exact_reasons)}",
                f"own cost   {1e3 * self.cost_s:.1f} ms of CPU{share}; {self.governor}",
                *([f"python     {self.python}"] if self.python else []),
                f"coverage   {coverage.sentence([self.coverage], shown=0) or 'not known'}",
                *(f"           out of reach: {found}" for found in self.coverage.out_of_reach),
            ]
        in_use = f"{size(self.malloc_bytes)} by malloc's own count, {size(self.anonymous_bytes)} anonymous memory"
        lines.append(f"in use     {in_use}, from before tracing too")
        return "\n".join(lines)


@aside
def snapshot() -> Snapshot:
    """Return what this process's own recording holds now; after `stop()`, what it held then.

    Raises:
        CoreError: the core is missing or of another build.
        TargetError: this process has not been traced.
    """
    with own.lock:
        state, found = _look()
    if found is None:
        raise TargetError(
            "snapshot of this process: it has no recording of its own;"
            " call memleak.start(), or start the program with memleak run"
        )
    return Snapshot(found, alive=[state == _native.RECORDING])


def status() -> Status:
    """Return how this process is traced, what that costs, and what is not seen. Needs no tracing.

    Raises:
        RecordingError: the recording cannot be read.
    """
    # Before anything is allocated for the answer.
    anonymous_bytes = loaded.anonymous_bytes(os.getpid())
    with own.lock:
        return _status(anonymous_bytes)


def _status(anonymous_bytes: Optional[int]) -> Status:
    try:
        malloc_bytes = _native.malloc_in_use()
        door = "preload" if _native.is_preloaded() else "import"
        state, found = _look()
        path, why = _native.recording_path(), _native.why()
    except CoreError as error:
        return _without_recording(_native.IDLE, str(error), None, None, anonymous_bytes)
    if found is None:
        return _without_recording(state, why, door, malloc_bytes, anonymous_bytes)
    header = found.header
    source = Source(found, state == _native.RECORDING)
    seconds = source.now_cs / 100
    cost_s = header.cost_ns / 1e9
    effective = Knobs(*header.effective[:2], *header.python_effective[:2], header.effective_sample_bytes)
    return Status(
        state=_STATES[state],
        why=why,
        door=door,
        pid=os.getpid(),
        mode=effective.mode,
        requested=Knobs(*header.requested[:2], *header.python_requested[:2], header.requested_sample_bytes),
        effective=effective,
        recording=path,
        private=path is None,
        samples=header.counters["samples"],
        lost=found.samples_lost,
        exact=not source.exact_reasons,
        exact_reasons=tuple(source.exact_reasons),
        cost_s=cost_s,
        cost_share=cost_s / seconds if seconds > 0 else None,
        governor=header.governor,
        focus=header.focus,
        python=header.python or None,
        counts_python=header.counts_python,
        counts_native=header.counts_native,
        coverage=coverage.of(found, os.getpid()),
        live=_live(source),
        live_malloc=_live_malloc(source) if header.counts_native else None,
        malloc_bytes=malloc_bytes,
        anonymous_bytes=anonymous_bytes,
    )


def _look() -> tuple[int, Optional[Recording]]:
    """Return the state of the core and this process's recording as they are after the chores; with `own.lock` held."""
    _native.poll()
    return _native.state(), own.load()


def _without_recording(
    state: int, why: str, door: Optional[str], malloc_bytes: Optional[int], anonymous_bytes: Optional[int]
) -> Status:
    return Status(
        state=_STATES[state],
        why=why,
        door=door,
        pid=os.getpid(),
        mode=None,
        requested=None,
        effective=None,
        recording=None,
        private=False,
        samples=0,
        lost={},
        exact=False,
        exact_reasons=("nothing is recorded",),
        cost_s=0.0,
        cost_share=None,
        governor=None,
        focus=None,
        python=None,
        counts_python=False,
        counts_native=False,
        coverage=None,
        live=None,
        live_malloc=None,
        malloc_bytes=malloc_bytes,
        anonymous_bytes=anonymous_bytes,
    )


def _live(source: Source) -> Estimate:
    """Estimate the live bytes of all rows."""
    rows = [row for row in source.recording.rows if row.in_totals]
    sums = sum((row.live for row in rows), LiveSums())
    domains = {row.domain for row in rows}
    return estimate_bytes(sums, narrow=source.narrow(domains), sample_bytes=source.sample_bytes(domains))


def _live_malloc(source: Source) -> Estimate:
    """Estimate what the C library's allocator counts too: no mappings, nothing cut from Python's arenas."""
    found, counted = source.recording, (layout.LAYER_MALLOC, layout.LAYER_OPERATOR_NEW)
    samples = [sample for sample in found.live if sample[5] in counted]
    domains = {found.row_of(sample).domain for sample in samples}
    sums = LiveSums.of((weight / 1024, size) for _, size, weight, *_ in samples)
    return estimate_bytes(sums, narrow=source.narrow(domains), sample_bytes=source.sample_bytes(domains))


def _estimate(found: Estimate) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return size(found.value)
    return f"{size(found.value)} ({size(found.low)} … {size(found.high)})"


def _knobs(knobs: Knobs, python: bool) -> str:
    shown = [name for name in knobs._fields if python or name not in config.PYTHON_PAIR]
    return ", ".join([knobs.mode, *(f"{name} {getattr(knobs, name)}" for name in shown)])
