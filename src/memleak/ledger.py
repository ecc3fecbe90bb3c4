"""The ledger: what the resident memory of a process is, part by part, and what that means.

Of a running process it is measured: `/proc/PID/smaps` says what is resident, a walk along the heaps what of it is in
use. Of one that has ended, or may not be looked into, it is worked out from the recording: the last look at what was
resident, what the C library said of its heaps, and the live samples. Each part says which it is, and how far it may be
wrong.
"""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from . import arenacap, coverage, heapwalk, layout, locate, smaps
from .coverage import OutOfReach
from .recording import Recording
from .records import LedgerEntry, Pins
from .units import size

MEASURED, ESTIMATED, TOLD, REMAINDER = "measured", "estimated", "told", "remainder"
PARTS = (
    "python_objects", "pymalloc_idle", "native_live", "allocator_free", "mappings", "outside", "files", "stacks",
    "shared", "tracer", "unexplained",
)  # fmt: skip
RETENTION, LIVE, OUTSIDE, FILES, SHARED, UNCLEAR = "retention", "live", "outside", "files", "shared", "unclear"
_RETENTION_SHARE, _RETENTION_LEAST = 0.2, 8 << 20
_GROWTH_SHARE, _GROWTH_LEAST = 0.1, 8 << 20
_MANY_ARENAS = 8
_OUTSIDE_LEAST = 1 << 20
_STALE_CS, _STALE_SHARE = 200, 0.05
_STACK_BYTES = 16 << 10  # of a thread, mostly
_Z = 1.96
_KINDS = {"files": smaps.FILE, "stacks": smaps.STACK, "shared": smaps.SHARED, "tracer": smaps.TRACER}
_OTHERS = "what the allocator holds free it does not say: that is what remains, unexplained memory with it"
_POOL_BYTES = {9: 4096}  # of CPython 3.9; later ones 16 KiB


class Part(NamedTuple):
    """One part of what is resident.

    Attributes:
        name: one of PARTS.
        bytes: of it.
        error: how far that may be wrong, 95 %; None when it is not known.
        how: measured, estimated (from samples), told (by the C library's allocator), or remainder.
        live: what the samples estimate to be live in it; None where there are no samples of it.
        live_error: of that, 95 %.
        growth: bytes gained in the second half of what the recording remembers; None when that is not known.
    """

    name: str
    bytes: int
    error: Optional[int]
    how: str
    live: Optional[int] = None
    live_error: Optional[int] = None
    growth: Optional[int] = None


class Verdict(NamedTuple):
    """What it means: retention, live, outside, files, shared or unclear; in words; what to do, and what that gains."""

    kind: str
    words: str
    remedies: tuple[str, ...]
    gain: Optional[int]


class Owner(NamedTuple):
    """An object, and live mappings that it asked for."""

    path: str
    bytes: int


class Ledger(NamedTuple):
    """The resident memory of one process, in parts that add up to it.

    Attributes:
        at: Unix time that the figures are of.
        measured: whether the process itself was looked at; else the recording was.
        rss_bytes: what was resident.
        parts: see `Part`; all of PARTS, in that order.
        untouched_bytes: asked for and never touched: live, and no resident memory.
        swapped_bytes: in swap, so not resident.
        locked_bytes: that the kernel may not take away.
        page_table_bytes: of the kernel's for this process; not in `rss_bytes`.
        heaps: of the C library; 0 when not known.
        arenas: whose heaps these are; 0 when not known.
        trim_gain: what malloc_trim(0) would give back; None when not known.
        trim_error: how far that may be wrong; None when `trim_gain` is.
        cap_gain: what MALLOC_ARENA_MAX=2 would not have kept; None where that is no remedy.
        cap_least, cap_most: the same, if as many threads of each arena are busy at once as can be, and as few.
        growth_s: seconds that `Part.growth` is over; None when the recording does not tell.
        outside: objects whose allocations do not come by: what is unexplained may be theirs.
        holders: objects whose variables lead to memory that no hook has seen come: the part `outside`.
        owners: objects that asked for the program's own mappings, the largest first.
        notes: what is left out, or could not be looked at.
        verdict: what it means.
        pins: who held pages of heaps in which little else was live; None when the recording does not tell.
    """

    at: float
    measured: bool
    rss_bytes: int
    parts: tuple[Part, ...]
    untouched_bytes: int
    swapped_bytes: int
    locked_bytes: int
    page_table_bytes: int
    heaps: int
    arenas: int
    trim_gain: Optional[int]
    trim_error: Optional[int]
    cap_gain: Optional[int]
    cap_least: Optional[int]
    cap_most: Optional[int]
    growth_s: Optional[float]
    outside: tuple[OutOfReach, ...]
    holders: tuple[Owner, ...]
    owners: tuple[Owner, ...]
    notes: tuple[str, ...]
    verdict: Verdict
    pins: Optional[Pins]

    def part(self, name: str) -> Part:
        """Return a part by its name."""
        return self.parts[PARTS.index(name)]

    @property
    def unexplained_share(self) -> float:
        """The share of the resident memory that no part explains."""
        return self.part("unexplained").bytes / self.rss_bytes if self.rss_bytes else 0.0


class _Figures:
    """The parts as they are found, before they are put in order."""

    def __init__(self) -> None:
        self.rss = 0
        self.parts: dict[str, tuple[int, Optional[int], str]] = {}
        self.untouched = self.swapped = self.heaps = self.arenas = self.in_heaps = 0
        self.trim_gain: Optional[int] = None
        self.trim_error: Optional[int] = None
        self.notes: list[str] = []
        self.holders: tuple[Owner, ...] = ()

    def put(self, name: str, value: float, error: Optional[float], how: str) -> None:
        self.parts[name] = max(0, round(value)), None if error is None else round(error), how

    def bytes(self, name: str) -> int:
        return self.parts[name][0] if name in self.parts else 0


class _Live(NamedTuple):
    """Estimated live bytes, as the allocator rounds them, with their error."""

    native: int
    native_error: int
    python: int
    python_error: int
    mapped: int


def of(recording: Recording, pid: Optional[int] = None, *, alive: bool = True) -> Optional[Ledger]:
    """Return the ledger of a recording's process; None where neither it nor the recording tells what was resident.

    Args:
        recording: what the core wrote.
        pid: its process; found by the recording's header when not given.
        alive: False: the process is not looked for.
    """
    live = _live(recording)
    looks = recording.ledger
    figures: Optional[_Figures] = None
    header = recording.header
    if pid is None and alive:
        pid = _pid_here(recording)
    problem = ""
    if pid is not None:
        try:
            figures = _measure(recording, pid, live)
        except OSError as failure:
            problem = f"/proc/{pid}: {failure.strerror or failure}: from the recording"
    measured = figures is not None
    if figures is None:
        if not looks:
            return None
        figures = _recorded(looks[-1], live, recording.pins)
    if problem:
        figures.notes.append(problem)
    growth, growth_s = _growth(looks, live)
    parts = []
    told = {"native_live": (live.native, live.native_error), "python_objects": (live.python, live.python_error)}
    for name in PARTS:
        value, error, how = figures.parts.get(name, (0, 0, MEASURED if measured else REMAINDER))
        known, known_error = told.get(name, (live.mapped, 0) if name == "mappings" else (None, None))
        parts.append(Part(name, value, error, how, known, known_error, growth.get(name)))
    last = looks[-1] if looks else None
    cap = _cap(recording, figures, last)
    began = header.started_at
    unseen = coverage.of(recording, pid if measured else None).out_of_reach
    found = Ledger(
        at=began + (_now_cs(recording) if measured or last is None else last.cs) / 100,
        measured=measured,
        rss_bytes=figures.rss,
        parts=tuple(parts),
        untouched_bytes=figures.untouched,
        swapped_bytes=figures.swapped,
        locked_bytes=last.locked_bytes if last else 0,
        page_table_bytes=last.page_table_bytes if last else 0,
        heaps=figures.heaps,
        arenas=figures.arenas,
        trim_gain=figures.trim_gain,
        trim_error=figures.trim_error,
        cap_gain=cap and cap.expected,
        cap_least=cap and cap.least,
        cap_most=cap and cap.most,
        growth_s=growth_s,
        outside=unseen,
        holders=figures.holders,
        owners=_owners(recording),
        notes=tuple(figures.notes),
        verdict=Verdict(UNCLEAR, "", (), None),
        pins=recording.pins,
    )
    return found._replace(verdict=_judge(found))


def _now_cs(recording: Recording) -> int:
    import time

    return max(0, (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - recording.header.start_monotonic_ns) // 10**7)


def _pid_here(recording: Recording) -> Optional[int]:
    header = recording.header
    return header.pid if header.pid and locate.start_ticks(header.pid) == header.start_ticks else None


# ---- samples -------------------------------------------------------------------------------------


def _chunk(bytes_: int) -> int:
    return max(32, (bytes_ + 8 + 15) & ~15)


def _live(recording: Recording) -> _Live:
    native = native_variance = python = python_variance = mapped = 0.0
    for _, length, weight, _, _, layer in recording.live:
        w = weight / 1024
        if layer == layout.LAYER_PYMEM:
            x = max(16, (length + 15) & ~15)
            python += w * x
            python_variance += w * (w - 1) * x * x
        elif layer == layout.LAYER_MMAP:
            mapped += w * ((length + 4095) & ~4095)
        else:
            x = _chunk(length)
            native += w * x
            native_variance += w * (w - 1) * x * x
    return _Live(
        round(native), round(_Z * native_variance**0.5), round(python), round(_Z * python_variance**0.5), round(mapped)
    )


def _owners(recording: Recording) -> tuple[Owner, ...]:
    """Return which objects asked for live mappings: the innermost frame's, but the C library's own."""
    held: dict[str, float] = {}
    for row in recording.rows:
        if row.domain == layout.DOMAINS.index("mmap") and row.live.samples:
            path = recording.module(row.stack[0].module_id).path if row.stack else ""
            held[path] = held.get(path, 0) + row.live.est_bytes
    return tuple(Owner(path, round(value)) for path, value in sorted(held.items(), key=lambda each: -each[1]))


# ---- a running process -----------------------------------------------------------------------------


def _measure(recording: Recording, pid: int, live: _Live) -> _Figures:
    """Look at a process. Raises OSError where it may not be looked at."""
    mappings = smaps.look(pid)
    figures = _Figures()
    by_kind: dict[str, int] = {}
    for one in mappings:
        by_kind[one.kind] = by_kind.get(one.kind, 0) + one.rss
    figures.rss = sum(one.rss for one in mappings)
    figures.swapped = sum(one.swapped for one in mappings)
    by_kind[smaps.FILE] = by_kind.get(smaps.FILE, 0) + by_kind.get(smaps.KERNEL, 0)
    for name, kind in _KINDS.items():
        figures.put(name, by_kind.get(kind, 0), 0, MEASURED)
    # Files and shared memory that the program mapped itself came by the hooks, too.
    own = [one for one in mappings if one.kind in (smaps.FILE, smaps.SHARED) and one.path.startswith("/")]
    code = {one.path for one in own if "x" in one.access}
    mapped = max(0, live.mapped - sum(one.bytes for one in own if one.path not in code))
    try:
        memory = heapwalk.Memory(pid)
    except OSError as error:
        figures.notes.append(f"/proc/{pid}/mem: {error.strerror}: its heaps were not walked")
        _share_out(figures, recording, live, by_kind.get(smaps.HEAP, 0), by_kind.get(smaps.MAPPED, 0), mapped)
        return figures
    with memory:
        version = recording.header.python_version
        pool_bytes = _POOL_BYTES.get(version >> 16 & 255, 16 << 10) if version else 0
        heaps = heapwalk.walk_heaps(memory, mappings)
        inside = heapwalk.look_into(memory, mappings, pool_bytes)
        holders = heapwalk.owners_of(memory, mappings, inside.rests) if inside.rest > mapped + _OUTSIDE_LEAST else []
    if heaps is None:
        heaps = heapwalk.Heaps(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        if by_kind.get(smaps.HEAP, 0):
            figures.notes.append("its heap was not understood: it is not glibc's, or it is damaged")
    elif heaps.skipped_bytes > heaps.walked_bytes // 100:
        figures.notes.append(f"{size(heaps.skipped_bytes)} of heaps not walked, and taken to be as the rest")
    if not inside.complete:
        figures.notes.append("not all mappings without a name were looked into")
    doubt = heaps.resident * heaps.skipped_bytes // max(1, heaps.walked_bytes + heaps.skipped_bytes)
    figures.heaps, figures.arenas, figures.in_heaps = heaps.heaps, heaps.arenas, heaps.used + heaps.free
    figures.put("native_live", heaps.used + inside.large, doubt, MEASURED)
    figures.put("allocator_free", heaps.free, doubt, MEASURED)
    figures.put("python_objects", inside.python_used, 0, MEASURED)
    figures.put("pymalloc_idle", inside.python_idle, 0, MEASURED)
    # What a heap has beside its blocks is not many pages; a mapping of kind heap that is none counts with the rest.
    rest = max(0, by_kind.get(smaps.MAPPED, 0) - inside.large - inside.python_used - inside.python_idle)
    rest += max(0, by_kind.get(smaps.HEAP, 0) - heaps.used - heaps.free)
    explained = min(rest, mapped)
    is_told = not heaps.heaps and not inside.large  # another allocator's
    if is_told and rest > explained:
        native = min(rest - explained, live.native)
        figures.put("native_live", native, live.native_error, ESTIMATED)
        figures.put("allocator_free", rest - explained - native, live.native_error, REMAINDER)
        figures.notes.append(_OTHERS)
        explained = rest
    figures.put("mappings", min(explained, mapped), 0, MEASURED)
    figures.holders = _holders(recording, inside.rests, holders, rest - explained)
    outside = sum(each.bytes for each in figures.holders)
    figures.put("outside", outside, None, MEASURED)
    figures.put("unexplained", rest - explained - outside, None, REMAINDER)
    figures.untouched = heaps.used_absent + inside.large_absent + max(0, mapped - rest)
    if heaps.heaps:
        figures.trim_gain, figures.trim_error = heaps.trimmable, doubt
    return figures


def _holders(
    recording: Recording, rests: Sequence[tuple[int, int, int]], paths: Sequence[str], most: int
) -> tuple[Owner, ...]:
    """Return which objects hold memory that did not come by the hooks, *most* bytes of it, the largest first."""
    held: dict[str, int] = {}
    for (*_, value), path in zip(rests, paths):
        if path:
            held[path] = held.get(path, 0) + value
    for owner in _owners(recording):  # these came by
        if owner.path in held:
            held[owner.path] = max(0, held[owner.path] - owner.bytes)
    found = []
    for path, value in sorted(held.items(), key=lambda each: -each[1]):
        value = min(value, most)
        if value >= _OUTSIDE_LEAST:
            found.append(Owner(path, value))
            most -= value
    return tuple(found)


def _share_out(figures: _Figures, recording: Recording, live: _Live, heap: int, rest: int, mapped: int) -> None:
    """Work out what heaps and mappings without a name hold, where they could not be looked into."""
    looks = recording.ledger
    last = looks[-1] if looks else None
    told = last if last and last.heap_cs else None
    used = min(heap, told.heap_used_bytes) if told else min(heap, live.native)
    figures.in_heaps = heap
    figures.put("allocator_free", heap - used, 0 if told else live.native_error, TOLD if told else ESTIMATED)
    arenas = max(last.python_arena_bytes if last else 0, live.python)
    python = min(rest, live.python)
    idle = min(rest - python, arenas - python)
    large = min(rest - python - idle, told.heap_mapped_bytes if told else max(0, live.native - used))
    figures.put("native_live", used + large, 0 if told else live.native_error, TOLD if told else ESTIMATED)
    figures.put("python_objects", python, live.python_error, ESTIMATED)
    figures.put("pymalloc_idle", idle, live.python_error, ESTIMATED)
    rest -= python + idle + large
    figures.put("mappings", min(rest, mapped), 0, ESTIMATED)
    figures.put("unexplained", rest - min(rest, mapped), None, REMAINDER)
    figures.untouched = max(0, (told.heap_mapped_bytes if told else 0) - large)
    _predict_trim(figures, recording.pins, heap)


# ---- a recording -----------------------------------------------------------------------------------


def _recorded(look: LedgerEntry, live: Optional[_Live], pins: Optional[Pins]) -> _Figures:
    """Work the parts out from one look."""
    figures = _Figures()
    figures.rss, figures.swapped = look.rss_bytes, look.swapped_bytes
    own_shared = min(look.own_bytes, look.shared_bytes)
    figures.put("files", look.file_bytes, 0, MEASURED)
    figures.put("shared", look.shared_bytes - own_shared, 0, MEASURED)
    told = bool(look.heap_cs)
    error = {name: _scaled(live, name, look) for name in ("native", "python")}
    own = min(look.own_bytes - own_shared, look.anonymous_bytes)
    stacks = look.threads * _STACK_BYTES
    native = look.heap_used_bytes + look.heap_mapped_bytes if told else look.native_bytes + look.large_bytes
    free = look.heap_free_bytes if told else 0
    arenas = max(look.python_arena_bytes, look.python_bytes)
    rest = look.anonymous_bytes - own - stacks
    # What was asked for and is not there, pages given back or never touched: of free memory first, then of mappings.
    wanted = native + free + arenas + look.mapped_bytes
    missing = max(0, wanted - rest)
    doubt = missing + (0 if told else error["native"])
    absent_free = min(free, missing)
    absent_mapped = min(look.mapped_bytes, missing - absent_free)
    absent_native = min(native, missing - absent_free - absent_mapped)
    over = max(0, rest - wanted)
    how = TOLD if told else ESTIMATED
    figures.put("tracer", own + own_shared, None, MEASURED)
    figures.put("stacks", min(stacks, look.anonymous_bytes - own), stacks, ESTIMATED)
    figures.put("native_live", native - absent_native, doubt, how)
    figures.put("python_objects", min(look.python_bytes, arenas), error["python"], ESTIMATED)
    figures.put("pymalloc_idle", arenas - look.python_bytes, error["python"], ESTIMATED)
    figures.put("mappings", look.mapped_bytes - absent_mapped, missing, ESTIMATED)
    age_cs = look.cs - look.heap_cs
    if told and age_cs > _STALE_CS and over > look.rss_bytes * _STALE_SHARE:
        figures.put("allocator_free", free - absent_free + over, over, REMAINDER)
        figures.notes.append(
            f"the C library was asked what its heaps hold {age_cs // 100} s before: {size(over)} that came since is"
            " counted as free memory that it keeps, which it need not be"
        )
    elif told:
        figures.put("allocator_free", free - absent_free, doubt, how)
        figures.put("unexplained", over, None, REMAINDER)
    else:
        figures.put("allocator_free", over, error["native"], REMAINDER)
        figures.notes.append(_OTHERS)
    if look.heap_state == layout.HEAP_NOT_ASKED:
        figures.notes.append(
            "the C library was never asked what its heaps hold: a program without threads has no moment"
        )
    elif look.heap_state == layout.HEAP_TOO_LONG:
        earlier = (look.cs - look.heap_cs) // 100
        figures.notes.append(f"the C library was last asked what its heaps hold {earlier} s earlier: it took long")
    figures.untouched = absent_native + absent_mapped
    if told:
        figures.in_heaps = max(0, look.heap_bytes - absent_free)
        _predict_trim(figures, pins, look.heap_bytes - absent_free)
    return figures


def _scaled(live: Optional[_Live], which: str, look: LedgerEntry) -> int:
    """Return the error of an earlier estimate from that of the last one: by the root of their ratio."""
    if live is None:
        return 0
    value, error, then = (
        (live.native, live.native_error, look.native_bytes + look.large_bytes)
        if which == "native"
        else (live.python, live.python_error, look.python_bytes)
    )
    return round(error * (then / value) ** 0.5) if value else 0


def _predict_trim(figures: _Figures, pins: Optional[Pins], heap: int) -> None:
    """Predict what malloc_trim(0) gives back by where live samples lie: pages without any.

    The core takes blocks to lie at random within a region. Blocks at regular distances, one that each request leaves
    behind, stand on more pages. Which it is so few samples do not tell; the middle is off by half of what is between.
    """
    free = figures.bytes("allocator_free")
    if pins is None or not pins.regions:
        return
    occupied = pins.occupied_bytes + (_occupied_if_regular(pins) - pins.sparse_occupied_bytes) / 2
    figures.trim_gain = max(0, min(free, round(heap - occupied)))
    figures.trim_error = max(free - figures.trim_gain, figures.trim_gain // 5)


def _occupied_if_regular(pins: Pins) -> float:
    """Return the pages of sparse regions that hold something if blocks lie at equal distances: a page each."""
    pages = pins.sparse_regions * pins.region_bytes
    share = pins.sparse_occupied_bytes / pages if pages else 0.0  # 1 - e^-blocks a page
    return pages * min(1.0, -math.log1p(-share)) if share < 1 else float(pages)


def _cap(recording: Recording, figures: _Figures, last: Optional[LedgerEntry]) -> Optional[arenacap.Gain]:
    """Return what a bound on the arenas would not have kept, where there are many and it would tell."""
    arenas = figures.arenas or (last.threads if last else 0)  # each thread may have one
    free = figures.bytes("allocator_free")
    if arenas < _MANY_ARENAS or free < _RETENTION_LEAST:
        return None
    gain = arenacap.Gain(*(min(value, free) for value in arenacap.gain(recording, figures.in_heaps, arenas)))
    return gain if gain.expected >= max(_RETENTION_LEAST, free / 4) else None


# ---- over time -------------------------------------------------------------------------------------


def _growth(looks: Sequence[LedgerEntry], live: _Live) -> tuple[dict[str, int], Optional[float]]:
    """Return what each part has gained in the second half of the looks, and in how many seconds."""
    if len(looks) < 2:
        return {}, None
    last = looks[-1]
    middle = (looks[0].cs + last.cs) // 2
    first = max((look for look in looks[:-1] if look.cs <= middle), key=lambda look: look.cs)
    before, after = _recorded(first, None, None), _recorded(last, live, None)
    return {name: after.bytes(name) - before.bytes(name) for name in PARTS}, (last.cs - first.cs) / 100


# ---- the verdict -----------------------------------------------------------------------------------


def _judge(ledger: Ledger) -> Verdict:
    rss = ledger.rss_bytes
    free, idle = ledger.part("allocator_free"), ledger.part("pymalloc_idle")
    held = free.bytes + idle.bytes
    if held >= max(_RETENTION_LEAST, _RETENTION_SHARE * rss) and free.how != REMAINDER:
        return _retention(ledger, free.bytes, idle.bytes)
    outside = ledger.part("unexplained").bytes + ledger.part("outside").bytes
    grown = {part.name: part.growth or 0 for part in ledger.parts}
    total = sum(grown.values())
    is_growing = total >= max(_GROWTH_LEAST, _GROWTH_SHARE * rss)
    most = max(grown, key=lambda name: grown[name]) if is_growing else ""
    gained = f"{size(grown.get(most, 0))} of {size(total)} gained in {ledger.growth_s or 0:.0f} s" if is_growing else ""
    if most in ("unexplained", "outside") or outside >= max(_RETENTION_LEAST, _RETENTION_SHARE * rss):
        return _outside(ledger, outside, gained if most in ("unexplained", "outside") else "")
    if most in ("files", "shared"):
        what = "pages of mapped files, which the kernel can take back" if most == "files" else "shared memory"
        return Verdict(FILES if most == "files" else SHARED, f"growth is {what}: {gained}", (), None)
    if free.how == REMAINDER and held >= max(_RETENTION_LEAST, _RETENTION_SHARE * rss):
        words = (
            f"{size(held)} of {size(rss)} is not live as far as samples tell: its allocator holds it, or nobody seen"
        )
        return Verdict(UNCLEAR, words, ("ask that allocator for its own statistics",), None)
    files, shared = ledger.part("files").bytes, ledger.part("shared").bytes
    alive = sum(ledger.part(name).bytes for name in ("python_objects", "native_live", "mappings"))
    if max(files, shared) > alive:
        kind, what = (FILES, "pages of mapped files") if files >= shared else (SHARED, "shared memory")
        return Verdict(kind, f"{size(max(files, shared))} of {size(rss)} is {what}", (), None)
    where = f"; {gained}: {most}" if is_growing else ""
    words = f"{size(alive)} of {size(rss)} is in use{where}"
    return Verdict(LIVE, words, ("memleak top shows the stacks that hold it",), None)


def _outside(ledger: Ledger, value: int, gained: str) -> Verdict:
    words = f"memory outside every hooked allocator: {size(value)} of {size(ledger.rss_bytes)}"
    words += f" ({gained})" if gained else ""
    if ledger.holders:
        words += f"; held by {', '.join(f'{file_name(each.path)} ({size(each.bytes)})' for each in ledger.holders[:3])}"
    elif ledger.outside:
        words += f"; out of reach: {', '.join(found.brief for found in ledger.outside[:3])}"
    else:
        words += "; no object is known that it belongs to"
    remedy = "ask that library for its own statistics; memleak doctor PID says what is out of reach"
    return Verdict(OUTSIDE, words, (remedy,), None)


def _retention(ledger: Ledger, free: int, idle: int) -> Verdict:
    rss = ledger.rss_bytes
    words = f"retention, not leak: {size(free + idle)} of {size(rss)} is free memory that "
    gain = ledger.trim_gain or 0
    remedies = []
    if free >= idle:
        words += f"the C library keeps ({size(free)}" + (f", Python {size(idle)})" if idle > free // 10 else ")")
        if ledger.trim_gain is not None and gain >= free / 4:
            remedies.append(f"malloc_trim(0) gives back about {size(gain)}")
        if ledger.cap_gain is not None:
            whose = f"there are {ledger.arenas} arenas" if ledger.arenas else "each thread may have an arena of its own"
            remedies.append(
                f"MALLOC_ARENA_MAX={arenacap.ARENAS} would have kept about {size(ledger.cap_gain)} less"
                f" ({size(ledger.cap_least or 0)} … {size(ledger.cap_most or 0)}): {whose}"
            )
        if ledger.trim_gain is not None and gain < free / 2:
            remedies.append(
                f"{size(free - gain)} lies between live blocks and cannot be given back: see who pins the heaps,"
                " or try another allocator"
            )
    else:
        words += f"Python's allocator keeps ({size(idle)}"
        words += f", the C library {size(free)})" if free > idle // 10 else ")"
        remedies.append(
            "an arena goes back only when nothing in it is live: keep long-lived objects out of the peak,"
            " or do the peak's work in a child process"
        )
        if ledger.trim_gain is not None and gain >= _RETENTION_LEAST:
            remedies.append(f"malloc_trim(0) gives back about {size(gain)}")
    return Verdict(RETENTION, words, tuple(remedies), gain if ledger.trim_gain is not None else None)


def file_name(path: str) -> str:
    """Return what an owner is called in a line."""
    return os.path.basename(path) or "(unknown code)"
