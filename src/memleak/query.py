"""Ask questions of recordings: rows, the top of them, groups, differences, SQL.

A `Snapshot` holds one or more recordings as they were when it was made. Rows of several recordings
that stand for the same stack in the same builds are merged into one.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union, overload

from . import coverage, layout, ledger, locate, recording
from .aside import aside
from .errors import QueryError, RecordingError, TargetError
from .evidence import Evidence, Marks, gather
from .grouping import Group, Source
from .judgement import Judgement
from .ledger import Ledger
from .merging import Groups, stacks
from .once import once
from .recording import Recording
from .records import Governor, Labels
from .rows import ALIASES, COLUMNS, GROUPS, NUMERIC, SIDES, DiffRow, Row
from .selection import Rows, Where
from .stacks import Tracer

if TYPE_CHECKING:
    from .comparison import Changes
    from .gaugerows import GaugeRow
    from .materialised import Materialised
    from .mismatches import Mismatch
    from .percall import PerCall
    from .pools import PoolUse
    from .scaling import Scaling
    from .sql import Result
    from .suspects import Found, Judged
    from .threads import ThreadSample

__all__ = ["COLUMNS", "GROUPS", "NUMERIC", "SIDES", "DiffRow", "Row", "Snapshot", "open"]

_ARCHIVE = b"PK\x03\x04"  # what a bundle begins with
MOMENTS_S = (6 * 3600.0, 3600.0, 600.0, 60.0, 10.0)


@aside
def open(
    target: Union[int, str, "os.PathLike[str]"],
    *,
    symbolizer: Optional[Any] = None,
    environ: Optional[Mapping[str, str]] = None,
) -> "Snapshot":
    """Read what *target* names and return it as a snapshot.

    Args:
        target: a pid (int or digits), a recording, a bundle of recordings with their names, or a directory, whose
            recordings are merged.
        symbolizer: names functions and files; see `Snapshot`. Of a bundle it is asked for what the bundle lacks.
        environ: where recordings of dead processes are looked up; the process's own by default.

    Raises:
        TargetError: there is no such process, file or directory, or it has no recording.
        RecordingError: a single recording cannot be read. In a directory such files are left out
            and listed in `Snapshot.problems`, unless none is left.
    """
    paths = locate.find(target, environ=environ)
    if len(paths) == 1 and recording.begins_with(paths[0], _ARCHIVE):
        from . import bundle

        bundled = bundle.load(paths[0])
        return Snapshot(bundled.recordings, symbolizer=bundled.names(symbolizer))
    is_pid = isinstance(target, int) or (isinstance(target, str) and target.isdigit())
    recordings, problems, alive = [], [], []
    for path in paths:
        origin = f"pid {target} ({path})" if is_pid else None
        try:
            found = recording.load(path, origin=origin)
        except RecordingError as error:
            if len(paths) == 1:
                raise
            problems.append(str(error))
            continue
        recordings.append(found)
        alive.append(bool(locate.is_alive(found.header, path)))
    if not recordings:
        raise TargetError(f"{target}: none of its {len(paths)} recordings can be read; the first: {problems[0]}")
    return Snapshot(recordings, symbolizer=symbolizer, alive=alive, problems=problems)


class Snapshot:
    """Recordings at one moment, ready for questions: a sequence of rows. Nothing in it changes.

    Args:
        recordings: what to ask about.
        symbolizer: an object with `frames(path, build_id, vaddr, exact)`, which returns the
            functions at a place, innermost first, each with `.function`, `.file`, `.line` and
            `.inlined`. Without one, `native_trace` and `mixed_trace` are None and rows cannot be
            grouped by function or file.
        alive: for each recording, whether its process was running.
        problems: recordings that were left out, in words.
    """

    def __init__(
        self,
        recordings: Union[Recording, Sequence[Recording]],
        *,
        symbolizer: Optional[Any] = None,
        alive: Optional[Sequence[bool]] = None,
        problems: Iterable[str] = (),
    ) -> None:
        """Take the recordings; rows are merged when first asked for."""
        held = (recordings,) if isinstance(recordings, Recording) else tuple(recordings)
        if not held:
            raise ValueError("a snapshot needs at least one recording")
        living = tuple(alive) if alive is not None else (False,) * len(held)
        self._sources = tuple(Source(found, lives) for found, lives in zip(held, living))
        self._tracer = Tracer(symbolizer)
        self.problems = tuple(problems)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings, in the order given."""
        return tuple(source.recording for source in self._sources)

    @property
    def alive(self) -> tuple[bool, ...]:
        """For each recording, whether its process was running when the snapshot was made."""
        return tuple(source.alive for source in self._sources)

    def with_symbolizer(self, symbolizer: Any) -> "Snapshot":
        """Return the same snapshot with another symbolizer."""
        return Snapshot(self.recordings, symbolizer=symbolizer, alive=self.alive, problems=self.problems)

    @property
    def calls(self) -> dict[Labels, int]:
        """How many entries of labels with ``outcome=True`` have ended under each set of labels, over all recordings.

        What an entry holds goes by the labels it ended under: `outcome=ok`, or the name of an exception.
        """
        found: dict[Labels, int] = {}
        for recording in self.recordings:
            for labels, calls in recording.calls.items():
                found[labels] = found.get(labels, 0) + calls
        return found

    @property
    def sources(self) -> tuple[Source, ...]:
        """The recordings with what depends on when and where they are read."""
        return self._sources

    @property
    def tracer(self) -> Tracer:
        """What writes frames down."""
        return self._tracer

    @property
    def symbolizer(self) -> Optional[Any]:
        """What names functions and files; None when nothing does."""
        return self._tracer.symbolizer

    def symbol_problems(self) -> dict[str, str]:
        """Return why the symbolizer has fewer names or lines for an object than it could: path -> reason."""
        return self._tracer.problems()

    # -- rows --------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Return every row, ungrouped, the most estimated live bytes first."""
        return self.top(None)

    @aside
    def top(
        self,
        n: Optional[int] = 10,
        by: str = "est_bytes",
        where: Where = None,
        group_by: Optional[str] = None,
        *,
        side: str = "mixed",
    ) -> list[Row]:
        """Return the *n* rows with the greatest values in column *by*.

        Args:
            n: how many; None for all.
            by: a numeric column, or `growth` for `growth_bytes_per_s`. Rows without a value come last.
            where: keeps the stacks for which each named column equals the value given, or the
                callable given for it is true of it; or a callable that takes the row. Applied
                before grouping. `label:NAME` in place of a column is the value of that label, a text; None without one.
            group_by: `label:NAME`, or one of stack, function, file, module, python_function, python_file,
                python_line, mod_name, thread; function to module by the innermost native frame,
                python_… by the innermost Python frame.
            side: which frames `Row.trace` and `Row.frames` are: mixed (Python frames in place of the
                interpreter's), native or python. The columns are the same.

        Raises:
            QueryError: no such column, not a numeric one, no such grouping, or no such side.
        """
        by = ALIASES.get(by, by)
        if by not in NUMERIC:
            known = "is not numeric" if by in COLUMNS else "does not exist"
            raise QueryError(f"cannot sort by {by!r}: the column {known}; numeric are {', '.join(NUMERIC)}")
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 0):
            raise QueryError(f"n must be a number of rows or None, not {n!r}")
        found = self._all.show(side).filter(where)
        if group_by is not None:
            found = found.group(group_by)
        return list(found.sort(by)[:n])

    def filter(self, where: Where = None, **columns: Any) -> Rows:
        """Return the rows for which everything is true that is asked; see `memleak.selection.Rows`.

        `filter(mod_name="glibc_malloc").group("module").sort("est_count")[:10]` is worked out when it is looked at.
        """
        return self._all.filter(where, **columns)

    def group(self, by: str) -> Rows:
        """Return one row for all stacks that have something in common; see `memleak.selection.Rows.group`."""
        return self._all.group(by)

    def sort(self, by: str = "est_bytes", *, ascending: bool = False) -> Rows:
        """Return the rows in the order of a column; see `memleak.selection.Rows.sort`."""
        return self._all.sort(by, ascending=ascending)

    @aside
    def to_dicts(self) -> list[dict[str, Any]]:
        """Return every row, ungrouped, as a dict of its columns, the most estimated live bytes first."""
        return self._all.to_dicts()

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Rows: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Row, Rows]:
        """Return a row, of a slice a sequence of rows; ungrouped, the most estimated live bytes first."""
        return self._all[index]

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, ungrouped, the most estimated live bytes first."""
        return iter(self._all)

    @aside
    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._all)

    def __bool__(self) -> bool:
        """Return True: a snapshot without rows is one, too."""
        return True

    @once
    def _all(self) -> Rows:
        return Rows(self._sources, self._tracer, lambda: (stacks(self._sources), None), judge=self._judgement).sort()

    @once
    def _judgement(self) -> Judgement:
        return Judgement(self._sources, lambda: self._all.groups)

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
        """Return stacks with what their growth means: a leak, a cache that fills, churn, …

        Leaks come first, then what fills up, then what grows and has too few samples to tell which, each the fastest
        first; then the rest, the most live bytes first. All stacks
        are judged together, so that few are said to grow by chance: docs/explanation/verdict.md. Of several recordings each
        is taken on the clock of its own end; those of ended processes are left out while others run.

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

    # -- comparison --------------------------------------------------------------------------------

    @aside
    def diff(self, older: "Snapshot", *, match: str = "place") -> "Changes":
        """Return how each stack changed since *older*, the greatest growth of live bytes first.

        Args:
            older: the same process at an earlier time, or another one.
            match: `place`: by build and place, and by file, name and line of Python frames; `name`: by the names of
                functions, inlined ones too, which other versions of a program share: docs/reference/diff.md.

        Raises:
            QueryError: there is no such *match*, or it needs names and a snapshot has no symbolizer.
        """
        from .comparison import Side, compare

        return compare(Side(self._sources, self._tracer), Side(older._sources, older._tracer), match)

    # -- SQL, saving -------------------------------------------------------------------------------

    @aside
    def sql(self, query: str, params: Union[Sequence[Any], Mapping[str, Any]] = ()) -> "Result":
        """Answer one SELECT over the tables of docs/reference/sql.md; see `memleak.sql.run`.

        Raises:
            QueryError: the statement is wrong, writes, or takes too long.
        """
        from .sql import run

        return run(self, query, params)

    @aside
    def save(self, path: Union[str, "os.PathLike[str]"], *, force: bool = False) -> list[Path]:
        """Write the recordings to *path*: one to a file, several into a directory of that name.

        A file appears complete or not at all, readable by its owner only.

        Args:
            path: where to; for several recordings a directory, made when missing.
            force: replace files that exist.

        Returns:
            The files written.

        Raises:
            TargetError: a file exists already, or cannot be written.
        """
        from .saving import save_all

        return save_all(self.recordings, Path(path), force=force)

    # -- what stands below every printout ------------------------------------------------------------

    @aside
    def exact_reasons(self) -> list[str]:
        """Return why the numbers are not exact; empty when they are."""
        several = len(self._sources) > 1
        reasons = []
        for source in self._sources:
            prefix = f"{source.recording.origin}: " if several else ""
            reasons += [prefix + reason for reason in source.exact_reasons]
        return reasons + list(self.problems)

    @aside
    def footer(self) -> dict[str, Any]:
        """Return what an answer must not go without: sampling, losses, coverage, own cost.

        Keys: `recordings` (how many), `sampling` (a list of dicts with `mode`,
        `min_sample_interval`, `max_sample_interval`, `python_min_sample_interval`,
        `python_max_sample_interval` (None when Python's small objects are not sampled), `sample_bytes`,
        `requested`, `python_requested`, `native` (bool: whether allocations are sampled that do not come by Python's
        allocators) and `recordings`),
        `samples` (taken in all), `live_samples`, `rows`, `dropped` (counter -> number, what answers
        lack), `counters` (the others that are not zero), `torn`, `incomplete` (list of str),
        `problems` (list of str), `coverage` (str), `out_of_reach` (list of dicts by the fields of
        `coverage.OutOfReach`), `python` (version and whether its frames are read, in words -> recordings),
        `exact` (bool: of the calls that came by), `exact_reasons` (list of str),
        `cost` (dict: `samples`, `sample_cost_ns`, `cpu_ns`, `duration_s`, `share`), `governors` (a list of dicts with
        `budget`, `widened`, `at_its_widest`, `acts`, `words` and `recordings`), `pools` (dict: `number`,
        `live_samples`, which are part of those above and in no total), `mismatches` (dict: `number` of those that
        are certain, `undecided`), `foci` (of the recordings with a part that is recorded wholly, or is to be, a list of
        dicts with `requested`, `effective`, `adopted`, `matched` and `words`).
        """
        sampling: dict[tuple[Any, ...], int] = {}
        dropped: dict[str, int] = {}
        others: dict[str, int] = {}
        losing = {name for name, makes_inexact in layout.COUNTERS if makes_inexact and name != layout.MERGED}
        python: dict[str, int] = {}
        governors: dict[Governor, int] = {}
        reached = [coverage.of(found) for found in self.recordings]
        compared = self.mismatches(undecided=True) if any(found.mismatches for found in self.recordings) else []
        for source in self._sources:
            header = source.recording.header
            law: tuple[Any, ...] = (
                header.effective[:2], header.effective_sample_bytes, header.requested[:2], header.mode,
                *((header.python_effective[:2], header.python_requested[:2]) if header.counts_python else (None, None)),
                header.counts_native,
            )  # fmt: skip
            sampling[law] = sampling.get(law, 0) + 1
            governors[header.governor] = governors.get(header.governor, 0) + 1
            if header.python:
                python[header.python] = python.get(header.python, 0) + 1
            for name, number in header.counters.items():
                if number and name not in ("samples", "forgotten"):
                    into = dropped if name in losing else others
                    into[name] = into.get(name, 0) + number
        return {
            "recordings": len(self._sources),
            "sampling": [
                {
                    "mode": mode,
                    "min_sample_interval": pair[0],
                    "max_sample_interval": pair[1],
                    "python_min_sample_interval": python_pair[0] if python_pair else None,
                    "python_max_sample_interval": python_pair[1] if python_pair else None,
                    "sample_bytes": sample_bytes,
                    "requested": tuple(requested),
                    "python_requested": python_requested,
                    "native": native,
                    "recordings": number,
                }
                for law, number in sampling.items()
                for pair, sample_bytes, requested, mode, python_pair, python_requested, native in [law]
            ],
            "samples": sum(found.header.counters["samples"] for found in self.recordings),
            "live_samples": sum(found.live_samples for found in self.recordings),
            "rows": len(self),
            "dropped": dropped,
            "counters": others,
            "torn": sum(found.torn for found in self.recordings),
            "incomplete": [f"{found.origin}: {why}" for found in self.recordings for why in found.incomplete],
            "problems": list(self.problems),
            "coverage": "; ".join(words for words in (coverage.sentence(reached), self._backtraces()) if words),
            "out_of_reach": [found._asdict() for part in reached for found in part.out_of_reach],
            "python": python,
            "exact": not self.exact_reasons(),
            "exact_reasons": self.exact_reasons(),
            "cost": self._cost(),
            "pools": {
                "number": sum(len(found.pools) for found in self.recordings),
                "live_samples": sum(len(found.pool_samples) for found in self.recordings),
            },
            "mismatches": {
                "number": sum(not one.undecided for one in compared),
                "undecided": sum(bool(one.undecided) for one in compared),
            },
            "governors": [
                {**found._asdict(), "words": str(found), "recordings": number} for found, number in governors.items()
            ],
            "foci": [
                {**focus._asdict(), "words": str(focus)}
                for focus in (found.header.focus for found in self.recordings)
                if focus.requested or focus.effective
            ],
        }

    def _backtraces(self) -> str:
        """Say which share of the samples has a complete backtrace in a known place."""
        samples = cut = unknown = unplaced = python_cut = 0
        for count, is_placeless, is_cut, is_unknown, is_python_cut in self._traced():
            samples += count
            if is_placeless:
                unplaced += count
            elif is_cut:
                cut += count
            elif is_unknown:
                unknown += count
            python_cut += count if is_python_cut else 0
        if not samples:
            return "no live samples"
        notes = []
        for count, what in (
            (unplaced, "without a backtrace"),
            (cut, "with a backtrace that was cut"),
            (unknown, "through code in no known module"),
            (python_cut, "with a Python stack that was cut"),
        ):
            if count:
                notes.append(f"{count} {what}")
        return f"{samples} live samples" + (f", {', '.join(notes)}" if notes else ", all with complete backtraces")

    def _traced(self) -> Iterable[tuple[int, bool, bool, bool, bool]]:
        """Yield of each group its samples, and whether it is placeless, cut, through an unknown place, cut in Python."""
        groups = self._all.groups
        if isinstance(groups, Groups):
            return groups.stacks.backtraces()
        return (
            (
                group.sums.samples, group.placeless, group.truncated, group.has_unknown_frames(self._sources),
                group.python_truncated,
            )
            for group in groups
        )  # fmt: skip

    def _cost(self) -> dict[str, Any]:
        samples = cpu_ns = 0
        costs = set()
        duration_s = 0.0
        for source in self._sources:
            header = source.recording.header
            taken = header.counters["samples"]
            samples += taken
            cpu_ns += header.cost_ns
            costs.add(header.sample_cost_ns)
            duration_s += source.now_cs / 100
        return {
            "samples": samples,
            "sample_cost_ns": costs.pop() if len(costs) == 1 else None,
            "cpu_ns": cpu_ns,
            "duration_s": duration_s,
            "share": cpu_ns / 1e9 / duration_s if duration_s > 0 else None,
        }
