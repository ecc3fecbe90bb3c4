"""What stands in a recording, as plain immutable values.

`memleak.recording` makes these from bytes that it has checked. Names are those of the C structures;
`_cs` is centiseconds since the recording began. The header, histories and sums have modules of their own, and are here too.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from . import layout
from .header import DOORS as DOORS
from .header import LIMITS as LIMITS
from .header import NOT_SAMPLED as NOT_SAMPLED
from .header import PYTHON_STATES as PYTHON_STATES
from .header import STATES as STATES
from .header import Focus as Focus
from .header import Governor as Governor
from .header import Header as Header
from .header import limit_name as limit_name
from .header import text as text
from .header import version_name as version_name
from .histories import History as History
from .histories import decode_history as decode_history
from .histories import gauge_value as gauge_value
from .histories import gauge_word as gauge_word
from .livesums import LiveSums as LiveSums
from .livesums import weighted_median as weighted_median


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
