"""The tables that SQL sees: their columns and where their rows come from."""

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple, Optional

from ..rows import COLUMNS, Facts
from . import tables
from .content import Content

SAMPLES = "malloc_sample_info"
ALIAS = "__all_virtual_malloc_sample_info"  # OceanBase's name


class Table(NamedTuple):
    """One table.

    Attributes:
        columns: name -> type.
        rows: yields the values of the columns; where some are computed these are left out, and a sample's number
            goes first.
        about: one line of help.
        computed: columns that cost much, and are made when a statement reads them: those of that sample's `Row`.
        column: returns the values of one of the other columns for all samples, in place of `rows`, which then yields
            numbers alone: only what a statement names is made.
    """

    columns: dict[str, type]
    rows: Callable[[Content], Iterable[tuple[Any, ...]]]
    about: str
    computed: frozenset[str] = frozenset()
    column: Optional[Callable[[Content, str], Sequence[Any]]] = None

    @property
    def stored(self) -> list[str]:
        """The columns that are not computed, in order."""
        return [name for name in self.columns if name not in self.computed]


# A recording is told from others by the first two columns, as a server is in OceanBase's tables.
_RECORDING = {"svr_ip": str, "svr_port": int}

TABLES = {
    SAMPLES: Table(
        {**COLUMNS, "stack_id": int},
        tables.samples,
        "what each process holds, by stack and mod_name: the columns of top --json, each process with rows of its own",
        frozenset([*COLUMNS, "stack_id"]) - frozenset(Facts._fields),
        Content.column,
    ),
    "stacks": Table(
        {
            "stack_id": int, "depth": int, "python_depth": int, "truncated": bool, "back_trace": str,
            "python_trace": str, "native_trace": str, "mixed_trace": str,
        },
        tables.stacks,
        "each stack once: the same in several processes is one row",
        frozenset(["back_trace", "python_trace", "native_trace", "mixed_trace"]),
    ),
    "frames": Table(
        {
            "stack_id": int, "position": int, "kind": str, "function": str, "file": str, "line": int, "module": str,
            "build_id": str, "vaddr": int, "inlined": bool, "placed": bool,
        },
        tables.frames,
        "the frames of each stack, position 0 the innermost",
    ),
    "history": Table(
        {**_RECORDING, "stack_id": int, "mod_name": str, "labels": str, "at": float, "est_bytes": int},
        tables.history,
        "what each row of malloc_sample_info held at earlier moments (Unix time)",
    ),
    "labels": Table(
        {**_RECORDING, "labels": str, "name": str, "value": str, "calls": int},
        tables.labels,
        "one row for each label of a set; the column labels is the set, as in malloc_sample_info; calls: how many"
        " entries of a label with outcome=True have ended under the set",
    ),
    "gauges": Table(
        {
            **_RECORDING, "name": str, "value": int, "least": int, "greatest": int, "first_set": float,
            "last_set": float, "last_changed": float, "from_outside": bool,
        },
        tables.gauges,
        "counts of each process's business: memleak gauge",
    ),
    "gauge_history": Table(
        {**_RECORDING, "name": str, "at": float, "value": int},
        tables.gauge_history,
        "what each gauge was at earlier moments (Unix time)",
    ),
    "modules": Table(
        {
            **_RECORDING, "module_id": int, "path": str, "build_id": str, "is_main": bool, "vaddr_low": int,
            "vaddr_high": int, "loaded_at": float, "unload_generation": int,
        },
        tables.modules,
        "the objects each process had loaded",
    ),
    "threads": Table(
        {
            **_RECORDING, "thread_id": int, "tid": int, "name": str, "first_seen": float, "last_seen": float,
            "total_samples": int, "alloc_count": int, "alloc_bytes": int, "est_count": int, "est_bytes": int,
        },
        tables.threads,
        "the threads that allocated, with what they allocated and is live",
    ),
    "pools": Table(
        {
            **_RECORDING, "name": str, "regions": int, "capacity_bytes": int, "est_bytes": int, "est_bytes_se": int,
            "est_bytes_low": int, "est_bytes_high": int, "est_count": int, "samples": int, "outside_bytes": int,
            "idle_bytes": int, "idle_share": float, "regions_ended": int, "regions_without_samples": int,
        },
        tables.pools,
        "the programs' own allocators: their rows of malloc_sample_info, by mod_name, are in no total",
    ),
    "mismatches": Table(
        {
            **_RECORDING, "kind": str, "what": str, "undecided": str, "mod_name": str, "freed_to": str,
            "samples": int, "est_count": int, "est_count_low": int, "est_count_high": int,
            "size_bytes": int, "freed_bytes": int, "first_seen": float, "last_seen": float, "tid": int,
            "alloc_back_trace": str, "alloc_trace": str, "free_back_trace": str, "free_trace": str,
        },
        tables.mismatches,
        "blocks that were freed another way than they were allocated; undecided is NULL where that is certain",
    ),
    "ledger": Table(
        {
            **_RECORDING, "at": float, "measured": bool, "part": str, "bytes": int, "error_bytes": int, "share": float,
            "how": str, "est_bytes": int, "est_bytes_error": int, "growth_bytes": int,
        },
        tables.ledger_parts,
        "what is resident of each process, part by part: memleak ledger",
    ),
    "ledger_history": Table(
        {
            **_RECORDING, "at": float, "threads": int, "rss_bytes": int, "anonymous_bytes": int, "file_bytes": int,
            "shared_bytes": int, "swapped_bytes": int, "native_bytes": int, "python_bytes": int, "mapped_bytes": int,
            "python_arena_bytes": int, "heap_used_bytes": int, "heap_free_bytes": int,
        },
        tables.ledger_history,
        "what was resident and what the allocators held at earlier moments (Unix time)",
    ),
    "parameters": Table(
        {
            **_RECORDING, "name": str, "alias": str, "requested": int, "effective": int, "default_value": int,
            "least": int, "greatest": int,
        },
        tables.parameters,
        "the knobs of each process, requested and effective; alias is OceanBase's name",
    ),
}  # fmt: skip
