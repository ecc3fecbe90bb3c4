"""Blocks that were freed another way than they were allocated.

The core compares addresses, owners and sizes, which needs no names. Of malloc with delete and new with free it has
suspects: a copy of the C++ operators inside a program looks like the program. Names tell: a suspect is reported if both
innermost functions have one and neither is such an operator, dropped if one is, and left undecided where a name is
missing.
"""

import re
from typing import NamedTuple, Optional

from . import layout
from .estimate import estimate_count
from .grouping import Group, Judge, Source
from .records import Frame, LiveSums, Module, RawMismatch, RecordedRow
from .rows import Row
from .shown import ShownFrame, lines
from .stacks import MIXED, Tracer, back_trace
from .symbolize import sections
from .symbolize.frames import is_plumbing

# Index = enum mlf_mismatch_kind.
KINDS = (
    "none", "pool_freed_by_free", "pool_freed_to_other_pool", "malloc_freed_to_pool", "pool_wrong_size",
    "pool_freed_twice", "malloc_delete", "new_free", "delete_wrong_size",
)  # fmt: skip
_WORDS = (
    "", "a block of pool {allocated} was passed to free()", "a block of pool {allocated} was freed to pool {freed}",
    "a block of malloc was freed to pool {freed}",
    "a block of {size} bytes of pool {allocated} was freed to it with {freed_size} bytes",
    "a block of pool {allocated} was freed to it twice", "a block of malloc was passed to delete",
    "a block of new was passed to free()",
    "a block of {size} bytes of new was passed to delete with {freed_size} bytes",
)  # fmt: skip
_SUSPECTS = (layout.MISMATCH_MALLOC_DELETE, layout.MISMATCH_NEW_FREE)
_CXX = (*_SUSPECTS, layout.MISMATCH_NEW_SIZE)
_DELETE = re.compile(r"operator delete(\[\])?(\(|$)|_Zd[la]Pv")


class Mismatch(NamedTuple):
    """Sampled blocks of one row that one stack freed another way than they were allocated.

    Attributes:
        kind: one of `KINDS`.
        what: the same in words, with names and sizes.
        undecided: why it may be none; empty when it is one.
        svr_ip, pid, process: whose.
        allocated: the row that the blocks were allocated in.
        freed_to: name of the pool that they were freed to; empty when to none.
        freed_trace: the stack that freed them, innermost first, in lines.
        freed_back_trace: the same as tokens.
        freed_native_trace: with native names; None without a symbolizer.
        size_bytes: of the latest block, as allocated.
        freed_bytes: what the caller said when it freed that; None where nothing is said.
        samples: sampled blocks.
        est_count: what they stand for.
        est_count_low, est_count_high: 95 % limits of that, of samples of equal weight, which is what a stack's mostly
            have; None where the gaps are too regular to state an error.
        first_seen, last_seen: Unix time.
        tid: the thread that freed the latest; 0: not known.
    """

    kind: str
    what: str
    undecided: str
    svr_ip: str
    pid: int
    process: str
    allocated: Row
    freed_to: str
    freed_trace: tuple[str, ...]
    freed_frames: tuple[ShownFrame, ...]
    freed_back_trace: str
    freed_native_trace: Optional[str]
    size_bytes: int
    freed_bytes: Optional[int]
    samples: int
    est_count: float
    est_count_low: Optional[float]
    est_count_high: Optional[float]
    first_seen: float
    last_seen: float
    tid: int


def mismatches(
    sources: tuple[Source, ...], tracer: Tracer, *, undecided: bool = False, judge: Optional[Judge] = None
) -> list[Mismatch]:
    """Return every mismatch, the most frequent first; *undecided*: also those that may be none.

    *judge* says of the allocating rows what their growth means.
    """
    found = []
    for source in sources:
        for raw in source.recording.mismatches:
            if 0 < raw.kind < len(KINDS):
                why = _why_not(source, tracer, raw)
                if why == "" or (why and undecided):
                    found.append(_mismatch(source, tracer, raw, why, judge))
    found.sort(key=lambda one: (bool(one.undecided), -one.est_count))
    return found


def _places(source: Source, frames: tuple[Frame, ...]) -> list[tuple[Module, Frame]]:
    return [(source.recording.module(frame.module_id), frame) for frame in frames]


def _allocating(source: Source, raw: RawMismatch) -> RecordedRow:
    return source.recording.rows[source.recording.row_index_of(raw.row)]


def _why_not(source: Source, tracer: Tracer, raw: RawMismatch) -> Optional[str]:
    """Return why it is not certain that something is wrong; empty when it is, None when nothing is."""
    if raw.kind not in _CXX:
        return ""
    past = sum(row.lost_samples for row in source.recording.rows if not row.pool)
    if past:
        return f"{past} frees have gone past the hooks: it may be of a later block at the address of a sample"
    if raw.kind not in _SUSPECTS:
        return ""
    asked = _allocating(source, raw).stack if raw.kind == layout.MISMATCH_MALLOC_DELETE else raw.stack
    if not asked:
        return "there is no stack"
    (module, frame), *_ = _places(source, asked)
    names = tracer.named(module, frame)
    if not names or not names[0].function:
        return f"no name for {module.path or 'an unknown object'}+{frame.vaddr:#x}, which may be an operator of C++"
    if any(is_plumbing(one.function) or (one.function and _DELETE.match(one.function)) for one in names):
        return None
    if raw.target is not None:
        return _called(source.recording.module(raw.target.module_id), raw.target, tracer)
    return ""


def _alike(raw: RawMismatch) -> LiveSums:
    """Return the sums of as many samples of one weight: of several, the recording keeps number and sum only."""
    weight = raw.est_count / max(1, raw.samples)
    return LiveSums(
        samples=raw.samples,
        est_count=raw.est_count,
        variance_count=raw.est_count * (weight - 1),
        square_count=raw.est_count * weight,
    )


def _called(module: Module, stub: Frame, tracer: Tracer) -> Optional[str]:
    """Tell whether a stub that was called is the linker's for free(), or an operator delete that is but a jump."""
    section = sections.name_at(module.path, module.build_id, stub.vaddr)
    if section is not None:
        return "" if section.startswith(".plt") else None
    return f"{module.path} cannot be read: what was called at {stub.vaddr:#x} may be an operator of C++"


def _mismatch(source: Source, tracer: Tracer, raw: RawMismatch, why: str, judge: Optional[Judge]) -> Mismatch:
    recording = source.recording
    index = recording.row_index_of(raw.row)
    group = Group(index, index)
    group.add((0, index), recording.rows[index])
    row = group.row((source,), tracer, judge=judge)
    places = _places(source, raw.stack)
    tracer.prefetch(places)
    freeing = recording.rows[index]._replace(
        stack=raw.stack, truncated=raw.truncated, python_stack=raw.python_stack, python_truncated=False
    )
    frames = tracer.frames(freeing, places, MIXED)
    pool = recording.pools.get(raw.freed_pool)
    freed_to = "" if not raw.freed_pool else pool.name if pool else f"pool_{raw.freed_pool}"
    thread = recording.thread(raw.thread)
    sized = raw.kind in (layout.MISMATCH_POOL_SIZE, layout.MISMATCH_NEW_SIZE)
    count = estimate_count(_alike(raw), narrow=source.narrow({recording.rows[index].domain}))
    words = {"allocated": row.mod_name, "freed": freed_to, "size": raw.size_bytes, "freed_size": raw.freed_bytes}
    return Mismatch(
        kind=KINDS[raw.kind],
        what=_WORDS[raw.kind].format(**words),
        undecided=why,
        svr_ip=source.svr_ip,
        pid=recording.header.pid,
        process=recording.header.command,
        allocated=row,
        freed_to=freed_to,
        freed_trace=lines(frames),
        freed_frames=tuple(frames),
        freed_back_trace=back_trace(places),
        freed_native_trace=tracer.native_trace(places) if places else None,
        size_bytes=raw.size_bytes,
        freed_bytes=raw.freed_bytes if sized else None,
        samples=raw.samples,
        est_count=raw.est_count,
        est_count_low=count.low,
        est_count_high=count.high,
        first_seen=source.began + raw.first_cs / 100,
        last_seen=source.began + raw.last_cs / 100,
        tid=thread.tid if thread else 0,
    )
