"""The tables that SQL sees, filled from a snapshot's rows."""

import sqlite3
from typing import TYPE_CHECKING, Any

from ..rows import COLUMNS

if TYPE_CHECKING:
    from ..query import Snapshot

TABLE = "malloc_sample_info"
VIEW = "__all_virtual_malloc_sample_info"  # OceanBase's name
TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}
_INTEGER_MOST = (1 << 63) - 1


def fill(connection: sqlite3.Connection, snapshot: "Snapshot") -> None:
    """Create the table and its alias and insert every row of *snapshot*."""
    columns = ", ".join(f'"{name}" {TYPES[kind]}' for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")
    marks = ", ".join("?" * len(COLUMNS))
    connection.executemany(
        f"INSERT INTO {TABLE} VALUES ({marks})",
        (tuple(_storable(value) for value in row.values()) for row in snapshot.rows()),
    )
    connection.execute(f"CREATE VIEW {VIEW} AS SELECT * FROM {TABLE}")
    connection.commit()


def _storable(value: Any) -> Any:
    """Return *value* as sqlite3 can store it: integers are cut at 63 bits."""
    if isinstance(value, int) and value > _INTEGER_MOST:
        return _INTEGER_MOST
    return value
