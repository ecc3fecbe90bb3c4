"""Rows of a snapshot in a chain of filters, groupings and sorts.

Nothing is read or named before it is looked at: a link of the chain is worked out when it is first iterated, measured
or indexed, and a row's text and names are made for those rows alone that are asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union, overload

from .aside import aside
from .errors import QueryError
from .grouping import Group, Judge, Source, group_rows, label_of
from .merging import Groups
from .once import once
from .rows import ALIASES, COLUMNS, GROUPS, JUDGED, LABEL, NO_WORD, SIDES, Row, Word
from .stacks import Tracer

Where = Union[Mapping[str, Any], Callable[[Row], bool], None]
Made = Optional[list[Row]]  # the rows of all groups, where a step had to make them

# Columns that can be sorted and filtered by without making a row first; the row's are rounded.
CHEAP: dict[str, Callable[[Group], float]] = {
    "est_bytes": lambda group: group.sums.est_bytes,
    "est_count": lambda group: group.sums.est_count,
    "alloc_bytes": lambda group: group.sums.bytes,
    "alloc_count": lambda group: group.sums.samples,
    "samples": lambda group: group.sums.samples,
}


class Rows(Sequence[Row]):
    """A sequence of rows. Nothing in it changes: each method returns another one.

    `filter`, `group` and `sort` can be chained in any order; a filter behind a grouping looks at the groups.
    A slice is such a sequence too.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        tracer: Tracer,
        find: Callable[[], tuple[Sequence[Group], Made]],
        side: str = "mixed",
        judge: Optional[Judge] = None,
    ) -> None:
        """Take what finds the groups, which is called at first use, and what says of each what its growth means."""
        self._sources = sources
        self._tracer = tracer
        self._find = find
        self._side = side
        self._judge = judge

    # -- the chain -----------------------------------------------------------------------------------

    def filter(self, where: Where = None, **columns: Any) -> "Rows":
        """Return the rows for which everything is true that is asked.

        Args:
            where: a callable that takes the row, or columns with what they are to be, as below.
            columns: what each is to equal, or a callable that is true of its value. `label:NAME` in place of a column
                is the value of that label, a text; None without one.

        Raises:
            QueryError: no such column, or *where* is something else.
        """
        if where is not None and not callable(where) and not isinstance(where, Mapping):
            raise QueryError(f"cannot filter by {where!r}: neither a callable nor columns with what they are to be")
        asked = {**(where if isinstance(where, Mapping) else {}), **columns}
        labels = [name for name in asked if str(name).startswith(LABEL)]
        unknown = [name for name in asked if name not in COLUMNS and name not in labels]
        if unknown:
            raise QueryError(f"cannot filter by {unknown[0]!r}: the columns are label:NAME, {', '.join(COLUMNS)}")
        first = [_cheap_test(CHEAP[name], wanted) for name, wanted in asked.items() if name in CHEAP]
        first += [_label_test(name[len(LABEL) :], asked[name]) for name in labels]
        first += [self._judged_test(name, wanted) for name, wanted in asked.items() if name in JUDGED]
        rest = [name for name in asked if name not in CHEAP and name not in JUDGED and name not in labels]
        then = [_test(name, asked[name]) for name in rest]
        if callable(where):
            then.append(where)

        if not first and not then:
            return self

        def passes(group: Group, made: Optional[Row]) -> bool:
            if not all(test(group) for test in first):
                return False
            row = self._row(group) if made is None and then else made
            return row is None or all(test(row) for test in then)

        def find() -> tuple[Sequence[Group], Made]:
            groups, made = self._found
            kept = [i for i, group in enumerate(groups) if passes(group, made[i] if made else None)]
            return [groups[i] for i in kept], [made[i] for i in kept] if made is not None else None

        return self._next(find)

    def group(self, by: str) -> "Rows":
        """Return one row for all stacks that have something in common, the most estimated live bytes first.

        `Row.group` names what that is.

        Args:
            by: `label:NAME`, or one of stack, function, file, module, python_function, python_file, python_line,
                mod_name, thread; function to module by the innermost native frame, python_… by the innermost Python
                frame.

        Raises:
            QueryError: no such grouping, or one that needs a symbolizer. At first use: the rows are groups already.
        """
        if by not in GROUPS and not str(by).startswith(LABEL):
            raise QueryError(f"cannot group by {by!r}: the groupings are label:NAME, {', '.join(GROUPS)}")
        if by in ("function", "file") and not self._tracer.can_name:
            raise QueryError(f"grouping by {by} needs a symbolizer")

        def find() -> tuple[Sequence[Group], Made]:
            groups, _ = self._found
            if any(group.kind != "stack" for group in groups):
                raise QueryError(f"cannot group by {by}: the rows are grouped already")
            return sorted(group_rows(self._sources, groups, by, self._tracer), key=_bytes_first), None

        return self._next(find)

    def sort(self, by: str = "est_bytes", *, ascending: bool = False) -> "Rows":
        """Return the same rows in the order of a column, the greatest first; rows without a value come last.

        `growth` is short for `growth_bytes_per_s`.

        Raises:
            QueryError: no such column.
        """
        by = ALIASES.get(by, by)
        if by not in COLUMNS and by != "group":
            raise QueryError(f"cannot sort by {by!r}: the columns are {', '.join(COLUMNS)}, and group")
        cheap = CHEAP.get(by)
        judged = JUDGED.index(by) if by in JUDGED else None

        def find() -> tuple[Sequence[Group], Made]:
            groups, made = self._found
            if cheap is not None and made is None and isinstance(groups, Groups):
                return groups.sorted_by(by, ascending=ascending), None
            keys: list[Any]
            if cheap is not None:
                keys = [cheap(group) for group in groups]
            elif judged is not None:
                keys = [self._word(group)[judged] for group in groups]
            else:
                made = made if made is not None else self._rows(groups)
                keys = [getattr(row, by) for row in made]
            order = sorted(range(len(groups)), key=lambda i: _bytes_first(groups[i]))
            known = sorted((i for i in order if keys[i] is not None), key=keys.__getitem__, reverse=not ascending)
            order = known + [i for i in order if keys[i] is None]
            return [groups[i] for i in order], None if made is None else [made[i] for i in order]

        return self._next(find)

    def show(self, side: str) -> "Rows":
        """Return the same rows with other frames in `Row.trace` and `Row.frames`.

        Args:
            side: mixed (Python frames in place of the interpreter's), native or python.

        Raises:
            QueryError: no such side.
        """
        if side not in SIDES:
            raise QueryError(f"there is no side {side!r} of a stack: the sides are {', '.join(SIDES)}")
        return Rows(self._sources, self._tracer, lambda: (self._found[0], None), side, self._judge)

    # -- looking at it -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._found[0])

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> "Rows": ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Row, "Rows"]:
        """Return a row, of a slice a sequence of rows."""
        if isinstance(index, slice):
            part = index
            return self._next(lambda: (self._found[0][part], None if self._found[1] is None else self._found[1][part]))
        return self._one(index)

    @aside
    def _one(self, index: int) -> Row:
        groups, made = self._found
        return made[index] if made is not None else self._rows([groups[index]])[0]

    def __iter__(self) -> Iterator[Row]:
        groups, made = self._found
        if made is not None:
            return iter(made)
        self._prefetch(groups)
        # Each group is made with its row, and not between rows: there the program is at work.
        return map(self._row_at, range(len(groups)))

    def __repr__(self) -> str:
        return f"<memleak rows: {len(self)}>"

    @aside
    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dict of its columns, in order; behind a grouping with `group`, too."""
        grouped = any(group.kind != "stack" for group in self._found[0])
        return [
            {**({"group": row.group} if grouped else {}), **dict(zip(COLUMNS, row.values()))} for row in self
        ]

    # -- groups --------------------------------------------------------------------------------------

    @property
    def groups(self) -> Sequence[Group]:
        """What the rows are made of."""
        return self._found[0]

    @once
    @aside
    def _found(self) -> tuple[Sequence[Group], Made]:
        return self._find()

    def _next(self, find: Callable[[], tuple[Sequence[Group], Made]]) -> "Rows":
        return Rows(self._sources, self._tracer, find, self._side, self._judge)

    @aside
    def _rows(self, groups: Sequence[Group]) -> list[Row]:
        self._prefetch(groups)
        return [self._row(group) for group in groups]

    @aside
    def _prefetch(self, groups: Sequence[Group]) -> None:
        stacks = (group for group in groups if group.kind == "stack")
        self._tracer.prefetch(place for group in stacks for place in group.places(self._sources))

    @aside
    def _row_at(self, index: int) -> Row:
        return self._row(self._found[0][index])

    @aside
    def _row(self, group: Group) -> Row:
        return group.row(self._sources, self._tracer, self._side, self._judge)

    def _word(self, group: Group) -> Word:
        return NO_WORD if self._judge is None else self._judge(self._sources, group)

    def _judged_test(self, column: str, wanted: Any) -> Callable[[Group], bool]:
        position = JUDGED.index(column)
        if callable(wanted):
            return lambda group: bool(wanted(self._word(group)[position]))
        return lambda group: bool(self._word(group)[position] == wanted)


def _test(column: str, wanted: Any) -> Callable[[Row], bool]:
    if callable(wanted):
        return lambda row: bool(wanted(getattr(row, column)))
    return lambda row: bool(getattr(row, column) == wanted)


def _cheap_test(value: Callable[[Group], float], wanted: Any) -> Callable[[Group], bool]:
    if callable(wanted):
        return lambda group: bool(wanted(round(value(group))))
    return lambda group: bool(round(value(group)) == wanted)


def _label_test(label: str, wanted: Any) -> Callable[[Group], bool]:
    """Test what a label is in all rows of a group; where it differs it is None."""
    text = wanted if wanted is None or callable(wanted) else str(wanted)

    def test(group: Group) -> bool:
        values = {label_of(row.labels, label) for row in group.recorded}
        value = values.pop() if len(values) == 1 else None
        return bool(text(value)) if callable(text) else value == text

    return test


def _bytes_first(group: Group) -> tuple[float, int]:
    return -group.sums.est_bytes, group.order
