"""Run one read-only SQL statement, bounded in time and size."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from ..errors import QueryError
from . import database
from .content import Content
from .database import VALUE_BYTES_MOST, Database
from .schema import ALIAS, TABLES

if TYPE_CHECKING:
    from ..query import Snapshot

TIMEOUT_S = 10.0
ROWS_MOST = 1_000_000
PATTERN_BYTES_MOST = 1000
COLUMNS_MOST = 100
ANSWER_BYTES_MOST = 256 << 20
HEAP_BYTES_MOST = 512 << 20
_INSTRUCTIONS_PER_CHECK = 10_000
_LIMIT_LENGTH, _LIMIT_COLUMN, _LIMIT_PATTERN = 0, 2, 8  # SQLITE_LIMIT_…, which the module names since Python 3.11 only

Parameters = Union[Sequence[Any], Mapping[str, Any]]


class Result(NamedTuple):
    """The answer to a statement: the names of its columns, and its rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class QueryTimeout(QueryError):
    """A statement took too long."""


def run(
    snapshot: "Snapshot",
    query: str,
    params: Parameters = (),
    *,
    timeout_s: float = TIMEOUT_S,
    rows_most: int = ROWS_MOST,
) -> Result:
    """Answer one SELECT statement about a snapshot; see `answer`."""
    content = Content(snapshot.sources, snapshot.tracer)
    return answer(content, query, params, timeout_s=timeout_s, rows_most=rows_most)


def answer(
    content: Content,
    query: str,
    params: Parameters = (),
    *,
    timeout_s: float = TIMEOUT_S,
    rows_most: int = ROWS_MOST,
    bytes_most: int = ANSWER_BYTES_MOST,
) -> Result:
    """Answer one SELECT statement over the tables of docs/reference/sql.md.

    Args:
        content: what to ask.
        query: one statement; it can only read.
        params: values for its `?` or `:name` places.
        timeout_s: seconds after which it is given up.
        rows_most: rows after which it is given up.
        bytes_most: bytes of text after which it is given up.

    Raises:
        QueryError: sqlite refuses the statement (its words), it writes, or it takes too long.
    """
    if not isinstance(query, str) or not query.strip():
        raise QueryError("an SQL statement is needed, such as SELECT * FROM malloc_sample_info")
    deadline = time.monotonic() + timeout_s

    def check() -> None:
        if time.monotonic() > deadline:
            raise _timeout(timeout_s)

    filled = Database(content, check)
    connection = filled.connection
    try:
        if hasattr(connection, "setlimit"):  # Python 3.11
            connection.setlimit(_LIMIT_LENGTH, VALUE_BYTES_MOST)
            connection.setlimit(_LIMIT_COLUMN, COLUMNS_MOST)
            connection.setlimit(_LIMIT_PATTERN, PATTERN_BYTES_MOST)
        filled.fill(query, params)
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS_PER_CHECK)
        cursor = connection.execute(query, params)
        if cursor.description is None:
            raise QueryError("the statement gives no rows: only SELECT is allowed")
        rows = _fetch(cursor, rows_most, bytes_most)
        columns = tuple(column[0] for column in cursor.description)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, TypeError) as error:
        raise _explained(error, timeout_s) from error
    except MemoryError as error:
        raise QueryError("there is not enough memory for the answer: select less, or add a LIMIT") from error
    finally:
        connection.close()
    return Result(columns, rows)


def limit_heap() -> None:
    """Bound what sqlite takes in this whole process; for processes that exist for statements alone."""
    database.limit_heap(HEAP_BYTES_MOST)


def _fetch(cursor: sqlite3.Cursor, rows_most: int, bytes_most: int) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    room = bytes_most
    for row in cursor:
        room -= sum([len(value) for value in row if isinstance(value, (str, bytes))])
        if room < 0:
            raise QueryError(f"more than {bytes_most >> 20} MiB: select less, or add a LIMIT")
        if len(rows) == rows_most:
            raise QueryError(f"more than {rows_most} rows: add a LIMIT")
        rows.append(row)
    return rows


def _explained(error: Exception, timeout_s: float) -> QueryError:
    words = str(error)
    if words == "interrupted":
        return _timeout(timeout_s)
    if words.startswith("not authorized"):
        return QueryError(f"only SELECT is allowed, over {', '.join(TABLES)} and {ALIAS} ({words})")
    if words == "user-defined function raised exception":
        words = "a text would be too long, or a function was given what it cannot take (docs/reference/sql.md)"
    return QueryError(f"SQL: {words}")


def _timeout(timeout_s: float) -> QueryTimeout:
    return QueryTimeout(f"given up after {timeout_s:g} s: narrow the query")
