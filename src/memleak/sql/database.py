"""An sqlite3 database in memory that holds a snapshot, as far as one statement asks for it.

`malloc_sample_info` is a view: what a row costs most (names, quantiles, the text of a stack) is computed when a
statement reads it, so `ORDER BY alloc_bytes DESC LIMIT 10` over 20,000 stacks symbolizes few of them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional

from ..rows import Facts
from . import functions
from .content import Content
from .schema import ALIAS, SAMPLES, TABLES

_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}
_FACTS = "_facts"
_COMPUTE = "_compute"
_ROWS_PER_CHECK = 64
_INTEGER_MOST = (1 << 63) - 1
_DENIED_FUNCTIONS = {"load_extension", "randomblob", "zeroblob"}
_POSITIONS = {name: position for position, name in enumerate(TABLES[SAMPLES].columns)}
_STACK_ID, _BACK_TRACE = _POSITIONS["stack_id"], _POSITIONS["back_trace"]


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
        self.connection = sqlite3.connect(":memory:")
        if _heap_bytes:
            self._run("PRAGMA temp_store = MEMORY")  # and not in files, which nothing bounds
        functions.add(self.connection, content)
        self.connection.create_function(_COMPUTE, 2, self._compute)
        facts = ", ".join(f'"{name}" {_TYPES[TABLES[SAMPLES].columns[name]]}' for name in Facts._fields)
        self._run(f"CREATE TABLE {_FACTS} (number INTEGER PRIMARY KEY, {facts}, stack_id INTEGER)")
        for name, table in TABLES.items():
            if name != SAMPLES:
                columns = ", ".join(f'"{column}" {_TYPES[kind]}' for column, kind in table.columns.items())
                self._run(f"CREATE TABLE {name} ({columns})")
        self._view(joined=False)
        self._run(f"CREATE VIEW {ALIAS} AS SELECT * FROM {SAMPLES}")
        self.connection.set_authorizer(self._authorize)

    def fill(self, statement: str, params: Any) -> None:
        """Insert the rows of the tables that *statement* reads, by what sqlite makes of it.

        Raises:
            sqlite3.Error: the statement is wrong, or does anything but read.
        """
        # The authorizer is not told of columns that USING names; the program that sqlite made says what it opens.
        opened = {step[3] for step in self.connection.execute(f"EXPLAIN {statement}", params) if step[1] == "OpenRead"}
        self.connection.set_authorizer(None)
        read = {name for name, page in self._run("SELECT name, rootpage FROM sqlite_master") if page in opened}
        others = read - {_FACTS}
        if _FACTS in read:
            self._fill_facts(joined=bool(others))
        for name in others:
            marks = ", ".join("?" * len(TABLES[name].columns))
            rows = (tuple(map(_storable, row)) for row in TABLES[name].rows(self._content))
            self.connection.executemany(f"INSERT INTO {name} VALUES ({marks})", self._checked(rows))
        self.connection.commit()
        self._run("PRAGMA query_only = ON")
        self.connection.set_authorizer(self._authorize)

    def _fill_facts(self, *, joined: bool) -> None:
        """Insert the cheap columns; with others the number of the stack, by which tables are joined, too."""
        numbers: Any = self._content.stack_ids if joined else [None] * len(self._content.samples)
        marks = ", ".join("?" * (len(Facts._fields) + 2))
        rows = [
            (number, *sample.group.facts(sample.sources), stack_id)
            for number, (sample, stack_id) in enumerate(zip(self._checked(self._content.samples), numbers), 1)
        ]
        insert = f"INSERT OR REPLACE INTO {_FACTS} VALUES ({marks})"
        try:
            self.connection.executemany(insert, rows)
        except (OverflowError, UnicodeEncodeError):
            self.connection.executemany(insert, [tuple(map(_storable, row)) for row in rows])
        if joined:
            self._view(joined=True)

    def _checked(self, rows: Iterable[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number % _ROWS_PER_CHECK == 0:
                self._check()
            yield row

    def _view(self, *, joined: bool) -> None:
        stored = {*Facts._fields, *(["stack_id"] if joined else [])}
        columns = ", ".join(
            f'"{name}"' if name in stored else f"{_COMPUTE}(number, {position}) AS \"{name}\""
            for name, position in _POSITIONS.items()
        )
        self._run(f"DROP VIEW IF EXISTS {SAMPLES}")
        self._run(f"CREATE VIEW {SAMPLES} AS SELECT {columns} FROM {_FACTS}")

    def _compute(self, number: int, position: int) -> Any:
        if position == _STACK_ID:
            return self._content.stack_id(number)
        if position == _BACK_TRACE:
            return _storable(self._content.back_trace(number))
        return _storable(self._content.row(number)[position])

    def _run(self, statement: str) -> sqlite3.Cursor:
        return self.connection.execute(statement)

    def _authorize(
        self, action: int, _first: Optional[str], second: Optional[str], _database: Optional[str], source: Optional[str]
    ) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            name = (second or "").lower()
            allowed = source == SAMPLES if name == _COMPUTE else name not in _DENIED_FUNCTIONS
            return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY


def _storable(value: Any) -> Any:
    """Return *value* as sqlite3 can store it: integers are cut at 63 bits, bytes that are no text become `?`."""
    if isinstance(value, int) and value > _INTEGER_MOST:
        return _INTEGER_MOST
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
