"""Ask questions of recordings: rows, the top of them, groups, differences, SQL.

A `Snapshot` holds one or more recordings as they were when it was made. Rows of several recordings
that stand for the same stack in the same builds are merged into one.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union, overload

from . import footers, locate, recording
from .analyses import Analyses
from .aside import aside
from .errors import QueryError, RecordingError, TargetError
from .grouping import Source
from .judgement import Judgement
from .merging import stacks
from .once import once
from .recording import Recording
from .records import Labels
from .rows import ALIASES, COLUMNS, GROUPS, NUMERIC, SIDES, DiffRow, Row
from .selection import Rows, Where
from .stacks import Tracer

if TYPE_CHECKING:
    from .comparison import Changes
    from .sql import Result

__all__ = ["COLUMNS", "GROUPS", "NUMERIC", "SIDES", "DiffRow", "Row", "Snapshot", "open"]

_ARCHIVE = b"PK\x03\x04"  # what a bundle begins with


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


class Snapshot(Analyses):
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
        return footers.exact_reasons(self._sources, self.problems)

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
        compare = partial(self.mismatches, undecided=True)
        return footers.footer(self._sources, self._all.groups, self.problems, compare)
