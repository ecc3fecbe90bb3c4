"""The rows of an answer: `Row` begins with OceanBase's columns, `DiffRow` compares two snapshots.

`docs/reference/rows.md` explains each column.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional, Union

from .shown import ShownFrame

GROUPS = (
    "stack",
    "function",
    "file",
    "module",
    "python_function",
    "python_file",
    "python_line",
    "mod_name",
    "thread",
)
# Before the name of a label, in a grouping or a condition.
LABEL = "label:"
SIDES = ("mixed", "native", "python")


# What a row's growth means: bytes per second, None when it does not grow; the verdict, None when there is none.
Word = tuple[Optional[float], Optional[str]]
NO_WORD: Word = (None, None)


class Cells(NamedTuple):
    """A row without the columns that are worked out when somebody looks at them."""

    svr_ip: Optional[str]
    svr_port: Optional[int]
    tenant_id: Optional[int]
    ctx_id: int
    mod_name: Optional[str]
    back_trace: str
    ctx_name: Optional[str]
    alloc_count: int
    alloc_bytes: int
    est_count: int
    est_bytes: int
    est_bytes_se: Optional[int]
    est_bytes_low: Optional[int]
    est_bytes_high: Optional[int]
    total_count: Optional[int]
    total_bytes: Optional[int]
    peak_bytes: Optional[int]
    first_seen: Optional[float]
    last_seen: Optional[float]
    age_p50: Optional[float]
    pid: Optional[int]
    process: Optional[str]
    host: Optional[str]
    samples: int
    exact: bool
    python_trace: Optional[str]
    native_trace: Optional[str]
    mixed_trace: Optional[str]
    labels: Optional[str]
    group: Optional[str] = None
    trace: tuple[str, ...] = ()
    frames: tuple[ShownFrame, ...] = ()


class Row(Cells):
    """One row of `malloc_sample_info`: a stack, or what `group_by` made one row of.

    `alloc_count` and `alloc_bytes` are the live samples as they are, `est_*` what they stand for.
    A column is None where it has no meaning for the row. Three attributes are not columns: `group`
    names the group (a function, a file, …) when the rows were grouped; `frames` is the stack,
    innermost first; `trace` is the same in lines, as `addr2line -pCfi` prints it.

    `growth_bytes_per_s` and `verdict` are columns, but no elements of the tuple: all stacks of the snapshot are
    judged together when one is first asked for, by name, by `values()`, `_asdict()`, or by copying or pickling the row.
    Until then a row keeps its snapshot in memory.
    """

    _judged: Union[Word, Callable[[], Word]] = NO_WORD

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return tuple(COLUMNS)

    def values(self) -> tuple[object, ...]:
        """Return the values of the columns, in order."""
        return (*self[:_JUDGED_AT], *self._word, *self[_JUDGED_AT:_CELLS])

    @property
    def growth_bytes_per_s(self) -> Optional[float]:
        """Bytes per second by which it grows; of a group the sum over its stacks. None when it does not grow."""
        return self._word[0]

    @property
    def verdict(self) -> Optional[str]:
        """One of `memleak.verdict.VERDICTS`; None for groups, and where no sample is live."""
        return self._word[1]

    @property
    def _word(self) -> Word:
        found = self._judged
        if callable(found):
            found = self._judged = found()
        return found

    def judged_by(self, judge: Callable[[], Word]) -> "Row":
        """Let *judge* be called when the verdict is first asked for; return the row."""
        self._judged = judge
        return self

    def _asdict(self) -> dict[str, Any]:
        return {**dict(zip(COLUMNS, self.values())), **dict(zip(self._fields[_CELLS:], self[_CELLS:]))}

    def _replace(self, **changes: Any) -> "Row":
        judged = changes.pop("growth_bytes_per_s", self._word[0]), changes.pop("verdict", self._word[1])
        return super()._replace(**changes).judged_by(lambda: judged)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (tuple(self), self._word)


def _made(cells: tuple[Any, ...], word: Word) -> Row:
    row = Row._make(cells)
    row._judged = word
    return row


class Facts(NamedTuple):
    """The columns of a `Row` that are read off its samples and its recording."""

    svr_ip: Optional[str]
    svr_port: Optional[int]
    tenant_id: Optional[int]
    ctx_id: int
    mod_name: Optional[str]
    ctx_name: Optional[str]
    alloc_count: int
    alloc_bytes: int
    est_count: int
    est_bytes: int
    total_count: Optional[int]
    total_bytes: Optional[int]
    peak_bytes: Optional[int]
    first_seen: Optional[float]
    last_seen: Optional[float]
    pid: Optional[int]
    process: Optional[str]
    host: Optional[str]
    samples: int
    exact: bool
    labels: Optional[str]


# Column -> the type its values have when they are not None.
COLUMNS: dict[str, type] = {
    "svr_ip": str,
    "svr_port": int,
    "tenant_id": int,
    "ctx_id": int,
    "mod_name": str,
    "back_trace": str,
    "ctx_name": str,
    "alloc_count": int,
    "alloc_bytes": int,
    "est_count": int,
    "est_bytes": int,
    "est_bytes_se": int,
    "est_bytes_low": int,
    "est_bytes_high": int,
    "total_count": int,
    "total_bytes": int,
    "peak_bytes": int,
    "first_seen": float,
    "last_seen": float,
    "age_p50": float,
    "growth_bytes_per_s": float,
    "verdict": str,
    "pid": int,
    "process": str,
    "host": str,
    "samples": int,
    "exact": bool,
    "python_trace": str,
    "native_trace": str,
    "mixed_trace": str,
    "labels": str,
}
JUDGED = ("growth_bytes_per_s", "verdict")
_JUDGED_AT = list(COLUMNS).index(JUDGED[0])
_CELLS = len(COLUMNS) - len(JUDGED)
# Shorter names to sort by.
ALIASES = {"growth": "growth_bytes_per_s"}
NUMERIC = tuple(name for name, kind in COLUMNS.items() if kind in (int, float))


class DiffRow(NamedTuple):
    """What became of one stack between two snapshots. Differences are newer minus older.

    The limits are 95 %. Two recordings of one process share samples, which cancel out; others are independent. They are
    None where no change was sampled, and where gaps were too narrow to tell. `status` is `new` or `gone` where only one
    side has live samples. `diff_bytes_per_s` is known of two recordings of one process. `trace` and `frames`, as in
    `Row`, are no columns.
    """

    mod_name: Optional[str]
    back_trace: str
    python_trace: Optional[str]
    native_trace: Optional[str]
    mixed_trace: Optional[str]
    pid: Optional[int]
    process: Optional[str]
    host: Optional[str]
    diff_est_bytes: int
    diff_est_bytes_se: Optional[int]
    diff_est_bytes_low: Optional[int]
    diff_est_bytes_high: Optional[int]
    diff_est_count: int
    diff_total_bytes: int
    diff_total_count: int
    est_bytes: int
    est_count: int
    older_est_bytes: int
    older_est_count: int
    samples: int
    older_samples: int
    exact: bool
    labels: Optional[str] = None
    status: Optional[str] = None
    diff_bytes_per_s: Optional[float] = None
    trace: tuple[str, ...] = ()
    frames: tuple[ShownFrame, ...] = ()

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return DiffRow._fields[:-2]

    def values(self) -> tuple[object, ...]:
        """Return the values of the columns, in order."""
        return tuple(self[:-2])
