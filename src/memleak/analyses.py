"""What is asked of recordings beyond their rows: pasts, threads, pools, gauges, the ledger, verdicts.

Each question is answered by a module of its own, which is imported when it is asked.
"""

from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Optional

from . import ledger
from .aside import aside
from .errors import QueryError
from .evidence import Evidence, Marks, gather
from .grouping import Group, Source
from .judgement import Judgement
from .ledger import Ledger
from .once import once
from .rows import SIDES, Row
from .selection import Rows
from .stacks import Tracer

if TYPE_CHECKING:
    from .gaugerows import GaugeRow
    from .materialised import Materialised
    from .mismatches import Mismatch
    from .percall import PerCall
    from .pools import PoolUse
    from .scaling import Scaling
    from .suspects import Found, Judged
    from .threads import ThreadSample

MOMENTS_S = (6 * 3600.0, 3600.0, 600.0, 60.0, 10.0)


class Analyses:
    """A part of `memleak.query.Snapshot`, which holds the recordings and their rows."""

    _sources: tuple[Source, ...]
    _tracer: Tracer
    _all: Rows
    _judgement: Judgement

    def _rows_of(self, groups: Sequence[Group]) -> Rows:
        return Rows(self._sources, self._tracer, lambda: (groups, None), judge=self._judgement)

    @aside
    def evidence(
        self, n: Optional[int] = 10, *, by: str = "held", moments_s: Sequence[float] = MOMENTS_S
    ) -> list[Evidence]:
        """Return *n* stacks with their past: growth, threads, what they held near the limit.

        Args:
            n: how many; None for all.
            by: those that hold the most ("held"), or that gained the most since the first mark ("grown").
            moments_s: seconds before the end at which the history is looked up.

        Raises:
            QueryError: there are several recordings, whose pasts are not one; or no such *by*.
        """
        if len(self._sources) > 1:
            raise QueryError(f"the past of {len(self._sources)} recordings is not one: ask one of them")
        (source,) = self._sources
        marks = Marks(source)
        if by not in ("held", "grown"):
            raise QueryError(f"there is no evidence by {by!r}: it is by held or grown")
        groups = self._grown(marks)[:n] if by == "grown" else self._held(n)
        rows = self._rows_of(groups)
        return [gather(row, group, source, self._tracer, marks, moments_s) for row, group in zip(rows, groups)]

    def _held(self, n: Optional[int]) -> list[Group]:
        """Return the first *n* groups that hold something."""
        groups = (self._all.groups[index] for index in range(len(self._all)))  # the most bytes first
        return list(islice(takewhile(lambda group: group.sums.est_bytes > 0, groups), n))

    def _grown(self, marks: Marks) -> list[Group]:
        """Return the groups that gained something since the first mark, the most first."""
        weighed = [(marks.grown(group) or 0, group) for group in self._all.groups]
        weighed.sort(key=lambda pair: (-pair[0], pair[1].order))
        return [group for weight, group in weighed if weight > 0]

    @aside
    def threads(self, *, side: str = "mixed") -> list["ThreadSample"]:
        """Return what each thread was last seen at, the one sampled last first; *side* as in `top`.

        Raises:
            QueryError: there is no such side.
        """
        if side not in SIDES:
            raise QueryError(f"there is no side {side!r} of a stack: the sides are {', '.join(SIDES)}")
        from .threads import last_samples

        return last_samples(self._sources, self._tracer, side, self._judgement)

    def pools(self) -> list["PoolUse"]:
        """Return the allocators that the programs have told of, the one with the most capacity first."""
        from .pools import pools

        return pools(self._sources, self._tracer, self._judgement)

    def mismatches(self, *, undecided: bool = False) -> list["Mismatch"]:
        """Return the sampled blocks that were freed another way than they were allocated, the most frequent first.

        Args:
            undecided: also those that may be none, for want of names; see `Mismatch.undecided`.
        """
        from .mismatches import mismatches

        return mismatches(self._sources, self._tracer, undecided=undecided, judge=self._judgement)

    # -- gauges ----------------------------------------------------------------------------------

    def gauges(self) -> list["GaugeRow"]:
        """Return the gauges of each recording, by name: counts of the program's business, with their past."""
        from .gaugerows import gauge_rows

        return [row for source in self._sources for row in gauge_rows(source)]

    def scaling(
        self, gauge: Optional[str] = None, what_if: Optional[Mapping[str, int]] = None, *, n: Optional[int] = 10
    ) -> "Scaling":
        """Return how live bytes follow the gauges: bytes per unit, and what they would be at another size.

        Args:
            gauge: only this one; all that were set if not given.
            what_if: values of gauges at which live bytes are foretold.
            n: how many stacks at most, those with the most bytes per unit; None for all.

        Raises:
            QueryError: no gauge was set, or none of that name; or there are several recordings: a gauge is one process's.
        """
        from .scaling import choose, laws

        if len(self._sources) > 1:
            raise QueryError(f"gauges are one process's, and here are {len(self._sources)} recordings: ask one of them")
        (source,) = self._sources
        wanted = dict(what_if or {})
        gauges = choose(source.recording.gauges, gauge, wanted)

        return laws(source, self._all.groups, self._rows_of, gauges, wanted, n)

    # -- the ledger ------------------------------------------------------------------------------

    def ledger(self, *, pid: Optional[int] = None) -> Ledger:
        """Return what the resident memory of the process is, part by part, and what that means; see `memleak.ledger`.

        Args:
            pid: the process, where its number here is not that in the recording; 0: look only at the recording.

        Raises:
            QueryError: there are several recordings, or this one does not say what was resident and nobody runs.
        """
        if len(self._sources) > 1:
            raise QueryError(f"{len(self._sources)} recordings have no ledger in common: ask one of them")
        (source,) = self._sources
        looked_at = source.alive and pid != 0  # the number of one that has ended may be another's by now
        found = ledger.of(source.recording, (pid or None) if looked_at else None, alive=looked_at)
        if found is None:
            raise QueryError(
                f"{source.recording.origin}: it was never noted what was resident: the program had no threads, or"
                " ended at once, or an older memleak recorded it; a running process is looked at itself"
            )
        return found

    def pinners(self) -> list[tuple[Row, int, int]]:
        """Return the stacks whose live blocks lie where little else is live: row, live bytes there, pages' bytes held.

        Estimates of the last look that the process took, the one that holds most first; none of older recordings.
        """
        found: list[tuple[Group, Source, int, int]] = []
        for number, source in enumerate(self._sources):
            held = source.recording
            for ref, live, pinned in held.pins.rows if held.pins else ():
                index = held.marked_index_of(ref)
                if index is not None and 0 <= index < len(held.rows):
                    group = Group((number, index), len(found))
                    group.add((number, index), held.rows[index])
                    found.append((group, source, live, pinned))
        self._tracer.prefetch(place for group, *_ in found for place in group.places(self._sources))
        rows = [
            (group.row(self._sources, self._tracer, judge=self._judgement), live, pinned)
            for group, _, live, pinned in found
        ]
        return sorted(rows, key=lambda each: -each[2])

    # -- verdicts ------------------------------------------------------------------------------------

    def verdicts(self, n: Optional[int] = None, *, growing: bool = False, side: str = "mixed") -> list["Found"]:
        """Return stacks with what their growth means: a leak, a cache that fills, churn or another verdict.

        Leaks come first, then what fills up, then what grows and has too few samples to tell which, each the fastest
        first; then the rest, the most live bytes first. All stacks are judged together, so that few are said to grow by
        chance: docs/explanation/verdict.md. Of several recordings each is taken on the clock of its own end; those of
        ended processes are left out while others run.

        Args:
            n: how many; None for all.
            growing: only those that grow.
            side: which frames `Row.trace` and `Row.frames` are, as in `top`.

        Raises:
            QueryError: there is no such side.
        """
        from .suspects import Found

        chosen = [(group, verdict) for group, verdict in self.judged.stacks if not growing or verdict.grows][:n]
        rows = self._rows_of([group for group, _ in chosen]).show(side)
        return [Found(row, verdict) for row, (_, verdict) in zip(rows, chosen)]

    @once
    def judged(self) -> "Judged":
        """Every stack with its verdict, the verdict of all together, and when the limit is met."""
        from .suspects import judge_stacks

        return judge_stacks(self._sources, self._all.groups)

    @aside
    def per_call(self) -> list["PerCall"]:
        """Return what calls leave behind by how they ended, for each set of labels that had ``outcome=True``.

        Sets with a finding come first, then those that hold the most.
        """
        from .percall import per_call

        return per_call(self._sources, self.judged)

    @aside
    def materialised(self) -> list["Materialised"]:
        """Return results of queries that are in memory twice, as a database client's rows and as Python's, the most first."""
        from .materialised import materialised

        return materialised(self._sources, self._tracer)
