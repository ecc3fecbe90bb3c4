"""An sqlite3 database in memory that holds a snapshot, as far as one statement asks for it.

Where a table has costly columns (names, quantiles, the text of a stack) it is a view that computes them when a
statement reads them: `ORDER BY alloc_bytes DESC LIMIT 10` over 20,000 stacks symbolizes few of them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional

from ..rows import COLUMNS, JUDGED, Facts
from . import bounded, functions
from .content import Content
from .schema import ALIAS, SAMPLES, TABLES, Table

_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}
_COMPUTE = "_compute"
_ROWS_PER_CHECK = 64
_INTEGER_MOST = (1 << 63) - 1
_DENIED_FUNCTIONS = {"load_extension", "randomblob", "zeroblob"}
_COLUMNS = (*COLUMNS, "stack_id")
_POSITIONS = {name: position for position, name in enumerate(_COLUMNS)}

VALUE_BYTES_MOST = 4 << 20
_heap_bytes = 0  # bound of sqlite's memory in this process; 0 = none


def limit_heap(size: int) -> None:
    """Bound what sqlite takes in this whole process, and keep it from temporary files."""
    global _heap_bytes
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA hard_heap_limit = {size:d}")
    connection.close()
    _heap_bytes = size


class Database:
    """The tables of `schema.TABLES`, empty; `fill` puts rows into those that a statement names."""

    def __init__(self, content: Content, check: Callable[[], None]) -> None:
        """Define tables and functions; *check* is called now and then while rows are made, and may raise."""
        self._content = content
        self._check = check
        self._is_filling = False
        self._named: set[str] = set()  # columns of samples
        self.connection = sqlite3.connect(":memory:")
        if _heap_bytes:
            self._run("PRAGMA temp_store = MEMORY")  # and not in files, which nothing bounds
        functions.add(self.connection, content)
        bounded.add(self.connection, VALUE_BYTES_MOST)
        self.connection.create_function(_COMPUTE, 2, self._compute)
        for name, table in TABLES.items():
            self._define(name, table, [] if table.column else table.stored)
        self.connection.set_authorizer(self._authorize)

    def _define(self, name: str, table: Table, stored: list[str]) -> None:
        """Create a table with what is stored, and a view of all where that is not everything."""
        definitions = [f'"{column}" {_TYPES[table.columns[column]]}' for column in stored]
        if not table.computed:
            self._run(f"CREATE TABLE {name} ({', '.join(definitions)})")
            return
        self._run(f"CREATE TABLE _{name} ({', '.join(['number INTEGER PRIMARY KEY', *definitions])})")
        columns = [
            f'"{column}"' if column in stored else _computed(column, kind) for column, kind in table.columns.items()
        ]
        for view in (name, ALIAS) if name == SAMPLES else (name,):
            self._run(f"CREATE VIEW {view} AS SELECT {', '.join(columns)} FROM _{name}")

    def fill(self, statement: str, params: Any) -> None:
        """Insert the rows of the tables that *statement* reads, by what sqlite makes of it.

        Raises:
            sqlite3.Error: the statement is wrong, or does anything but read.
        """
        # The authorizer is not told of columns that USING names; the program that sqlite made says what it opens.
        opened = {step[3] for step in self.connection.execute(f"EXPLAIN {statement}", params) if step[1] == "OpenRead"}
        self._is_filling = True  # before Python 3.11 an authorizer cannot be taken away
        pages = dict(self._run("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
        for name, table in TABLES.items():
            if pages[_stored_name(name)] in opened:
                self._insert(name, table)
        self.connection.commit()
        self._run("PRAGMA query_only = ON")
        self._is_filling = False
        self.connection.set_authorizer(self._authorize)  # again: statements that were allowed until now are forgotten

    def _insert(self, name: str, table: Table) -> None:
        content = self._content
        stored = table.stored
        rows: Iterable[tuple[Any, ...]] = table.rows(content)
        if table.column is not None:
            stored = [column for column in stored if column in self._named]  # a column not told of is computed
            for view in (name, ALIAS):
                self._run(f"DROP VIEW {view}")
            self._run(f"DROP TABLE _{name}")
            self._define(name, table, stored)
            rows = zip(range(1, len(content) + 1), *[table.column(content, column) for column in stored])
        found = list(self._checked(rows))
        marks = ", ".join("?" * (len(stored) + bool(table.computed)))
        insert = f"INSERT INTO {_stored_name(name)} VALUES ({marks})"
        try:
            self.connection.executemany(insert, found)
        except (OverflowError, UnicodeEncodeError):
            self._run(f"DELETE FROM {_stored_name(name)}")
            self.connection.executemany(insert, [tuple(map(_storable, row)) for row in found])

    def _checked(self, rows: Iterable[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number % _ROWS_PER_CHECK == 0:
                self._check()
            yield row

    def _compute(self, number: int, position: int) -> Any:
        content, column = self._content, _COLUMNS[position]
        if column in Facts._fields:
            return _storable(content.column(column)[number - 1])
        if column == "stack_id":
            return content.stack_id(number)
        if column == "back_trace":
            return _storable(content.back_trace(number))
        if column == "python_trace":
            return _storable(content.python_trace(number))
        if column in ("native_trace", "mixed_trace") and not content.tracer.can_name:
            return None
        if column in JUDGED:
            return content.word(number)[JUDGED.index(column)]
        return _storable(getattr(content.row(number), column))

    def _run(self, statement: str) -> sqlite3.Cursor:
        return self.connection.execute(statement)

    def _authorize(
        self, action: int, first: Optional[str], second: Optional[str], _database: Optional[str], source: Optional[str]
    ) -> int:
        if self._is_filling or action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
            if action == sqlite3.SQLITE_READ and second and first in (SAMPLES, ALIAS):
                self._named.add(second)
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            name = (second or "").lower()
            allowed = source in (*TABLES, ALIAS) if name == _COMPUTE else name not in _DENIED_FUNCTIONS
            return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY


def _stored_name(name: str) -> str:
    return f"_{name}" if TABLES[name].computed else name


def _computed(column: str, kind: type) -> str:
    # With the affinity that a column of a table has.
    return f'CAST({_COMPUTE}(number, {_POSITIONS[column]}) AS {_TYPES[kind]}) AS "{column}"'


def _storable(value: Any) -> Any:
    """Return *value* as sqlite3 can store it: integers are cut at 63 bits, bytes that are no text become `?`."""
    if isinstance(value, int) and value > _INTEGER_MOST:
        return _INTEGER_MOST
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
