"""Label what a DB-API driver allocates by the statement it runs for: `connection = labelled(sqlite3.connect(path))`.

Connection and cursors are handed out in wrappers; statements run, and rows are fetched, under the label `sql`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Optional

from ..labels import label
from .fingerprint import label_of

_RUN = ("execute", "executemany", "executescript", "callproc")
_FETCH = ("fetchone", "fetchmany", "fetchall", "nextset", "scroll")


def labelled(connection: Any, *, raw: bool = False, double_quotes: Optional[str] = None, outcome: bool = False) -> Any:
    """Return *connection* in a wrapper that labels.

    Args:
        connection: an open connection of any DB-API 2.0 driver.
        raw: label with the statements as they are, not with their shapes: values in them get into recordings.
        double_quotes: see `fingerprint`; None: by the driver's name.
        outcome: note how each statement ends, as ``label(outcome=True)`` does; what is fetched later is under `ok`.
    """
    if isinstance(connection, Connection):
        return connection
    if double_quotes is None:
        module = type(connection).__module__.lower()
        double_quotes = "text" if "mysql" in module or "maria" in module else "name"
    return Connection(connection, double_quotes, raw, outcome)


def instrument(module: Any, *, raw: bool = False, outcome: bool = False) -> Callable[[], None]:
    """Let `module.connect` hand out wrappers from now on, to who looks it up from now on; return what undoes it."""
    connect = module.connect

    def labelled_connect(*args: Any, **kwargs: Any) -> Any:
        return labelled(connect(*args, **kwargs), raw=raw, outcome=outcome)

    module.connect = labelled_connect

    def undo() -> None:
        if module.connect is labelled_connect:
            module.connect = connect

    return undo


class _Wrapper:
    """Passes everything on to the object within."""

    __slots__ = ("_double_quotes", "_outcome", "_raw", "_within")

    def __init__(self, within: Any, double_quotes: str, raw: bool, outcome: bool) -> None:
        set_own = object.__setattr__
        set_own(self, "_within", within)
        set_own(self, "_double_quotes", double_quotes)
        set_own(self, "_raw", raw)
        set_own(self, "_outcome", outcome)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._within, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._within, name)

    def __repr__(self) -> str:
        return f"<labelled {self._within!r}>"

    def __exit__(self, *error: Any) -> Any:
        return self._within.__exit__(*error)

    def _wrapped(self, cursor: Any, under: label) -> Any:
        return Cursor(cursor, self._double_quotes, self._raw, self._outcome, under)

    def _labels(self, sql: Any) -> tuple[label, label]:
        """Return what a statement runs under, and what its rows are fetched under."""
        of = self._double_quotes, self._raw
        under = label_of(sql, *of, self._outcome)
        return under, label_of(sql, *of, "ok") if self._outcome else under


class Connection(_Wrapper):
    """A connection whose cursors label."""

    __slots__ = ()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor that labels."""
        return self._wrapped(self._within.cursor(*args, **kwargs), label())

    def __enter__(self) -> Any:
        """Return what the connection within returns; itself where that does."""
        found = self._within.__enter__()
        if found is self._within:
            return self
        return self._wrapped(found, label()) if hasattr(found, "fetchone") else found

    def __getattr__(self, name: str) -> Any:
        # Of drivers whose connections run statements themselves: sqlite3, psycopg 3.
        found = getattr(self._within, name)
        return self._running(found) if name in _RUN else found

    def _running(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(sql: Any, *args: Any, **kwargs: Any) -> Any:
            under, fetched = self._labels(sql)
            with under:
                cursor = method(sql, *args, **kwargs)
            return self._wrapped(cursor, fetched) if hasattr(cursor, "fetchone") else cursor

        return run


class Cursor(_Wrapper):
    """A cursor that runs statements, and fetches their rows, under their label."""

    __slots__ = ("_under",)

    def __init__(self, within: Any, double_quotes: str, raw: bool, outcome: bool, under: label) -> None:
        """Begin with the label of the statement that was run last."""
        super().__init__(within, double_quotes, raw, outcome)
        object.__setattr__(self, "_under", under)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._within, name)
        if name in _RUN:
            return self._running(found)
        return self._fetching(found) if name in _FETCH else found

    def _running(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(sql: Any, *args: Any, **kwargs: Any) -> Any:
            under, fetched = self._labels(sql)
            object.__setattr__(self, "_under", fetched)
            with under:
                found = method(sql, *args, **kwargs)
            return self if found is self._within else found

        return run

    def _fetching(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def fetch(*args: Any, **kwargs: Any) -> Any:
            with self._under:
                return method(*args, **kwargs)

        return fetch

    def __iter__(self) -> Iterator[Any]:
        """Fetch row by row."""
        rows = iter(self._within)
        while True:
            with self._under:
                try:
                    row = next(rows)
                except StopIteration:
                    return
            yield row

    def __next__(self) -> Any:
        """Fetch a row."""
        with self._under:
            return next(self._within)

    def __enter__(self) -> Any:
        """Return this cursor where the one within returns itself."""
        found = self._within.__enter__()
        return self if found is self._within else found
