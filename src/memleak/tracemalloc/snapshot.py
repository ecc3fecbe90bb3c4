"""tracemalloc's `Snapshot`, `Trace` and files of snapshots."""

from __future__ import annotations

import os
import pickle
import tracemalloc as standard
from collections.abc import Iterable, Sequence
from typing import Any, Union, overload

from .blocks import RawTrace, RawTraces, SampledTrace
from .statistic import Groups, Statistic, StatisticDiff, compared, grouped, largest_first, weight_and_size

PathLike = Union[str, "os.PathLike[str]"]


class Trace(standard.Trace):
    """A recorded block: `domain`, `size`, `traceback`. `size` is that of all the blocks that it stands for."""

    __slots__ = ()

    @property
    def weight(self) -> float:
        """How many blocks it stands for; 1 when every block was recorded."""
        return weight_and_size(self._trace)[0]  # type: ignore[attr-defined]

    @property
    def block_size(self) -> int:
        """Size of the one block that was recorded."""
        return weight_and_size(self._trace)[1]  # type: ignore[attr-defined]


class Traces(Sequence[Trace]):
    """The traces of a snapshot, each made when it is asked for."""

    def __init__(self, traces: Sequence[RawTrace]) -> None:
        """Take raw ones."""
        self._traces = traces

    def __len__(self) -> int:
        return len(self._traces)

    @overload
    def __getitem__(self, index: int) -> Trace: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Trace, ...]: ...

    def __getitem__(self, index: int | slice) -> Trace | tuple[Trace, ...]:
        """Return a trace, of a slice a tuple of them."""
        return tuple(map(Trace, self._traces[index])) if isinstance(index, slice) else Trace(self._traces[index])

    def __contains__(self, trace: object) -> bool:
        return isinstance(trace, standard.Trace) and trace._trace in self._traces  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return self._traces == other._traces if isinstance(other, Traces) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Traces len={len(self)}>"


class Snapshot(standard.Snapshot):
    """Traces of live blocks at one moment.

    Attributes:
        traces: a sequence of `Trace`.
        traceback_limit: most frames that a traceback was to have.
        exact_reasons: why sizes and counts are estimates, or lack something; empty when they are exact.
    """

    exact_reasons: tuple[str, ...] = ()
    _narrow = False  # errors cannot be stated

    def __init__(self, traces: Sequence[RawTrace], traceback_limit: int) -> None:
        """Take raw traces."""
        super().__init__(traces, traceback_limit)
        self.traces = Traces(traces)
        if isinstance(traces, RawTraces):
            self.traces = Traces(list(traces))
            self.exact_reasons, self._narrow = traces.exact_reasons, traces.narrow

    @property
    def exact(self) -> bool:
        """Whether every block was recorded."""
        return not self.exact_reasons

    def dump(self, filename: PathLike) -> None:
        """Write the snapshot to a file, as the standard module does."""
        with open(filename, "wb") as file:
            pickle.dump(self, file, pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def load(filename: PathLike) -> Snapshot:
        """Read a file of a snapshot, ours or the standard module's.

        Only snapshots, numbers, text and the standard containers are read: no file can make this run code.

        Raises:
            pickle.UnpicklingError: there is something else in it.
        """
        with open(filename, "rb") as file:
            found = _Unpickler(file).load()
        if not isinstance(found, Snapshot):
            raise pickle.UnpicklingError(f"{os.fspath(filename)}: not a snapshot of tracemalloc")
        return found

    def filter_traces(self, filters: Iterable[standard.DomainFilter | standard.Filter]) -> Snapshot:
        """Return a new snapshot with the traces that the filters leave."""
        kept = super().filter_traces(filters).traces._traces  # type: ignore[arg-type,attr-defined]
        made = Snapshot(kept, self.traceback_limit)
        made.exact_reasons, made._narrow = self.exact_reasons, self._narrow
        return made

    def statistics(self, key_type: str, cumulative: bool = False) -> list[Statistic]:  # type: ignore[override]
        """Return statistics by *key_type* (traceback, filename or lineno), the largest first.

        Raises:
            ValueError: no such *key_type*, or not a cumulative one.
        """
        return largest_first(_groups(self, key_type, cumulative).values())

    def compare_to(  # type: ignore[override]
        self, old_snapshot: standard.Snapshot, key_type: str, cumulative: bool = False
    ) -> list[StatisticDiff]:
        """Return how the statistics have changed since an older snapshot, the largest change first.

        Raises:
            ValueError: no such *key_type*, or not a cumulative one.
        """
        return compared(_groups(old_snapshot, key_type, cumulative), _groups(self, key_type, cumulative))


def _groups(snapshot: standard.Snapshot, key_type: str, cumulative: bool) -> Groups:
    narrow = isinstance(snapshot, Snapshot) and snapshot._narrow
    return grouped(snapshot.traces._traces, key_type, cumulative, narrow)  # type: ignore[attr-defined]


class _Unpickler(pickle.Unpickler):
    """Knows snapshots and nothing else that would have to be imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise pickle.UnpicklingError(f"not a snapshot of tracemalloc: there is a {module}.{name} in it")


_KNOWN = {
    ("tracemalloc", "Snapshot"): Snapshot,
    ("tracemalloc", "_Traces"): Traces,
    **{(known.__module__, known.__name__): known for known in (Snapshot, Traces, SampledTrace)},
}
