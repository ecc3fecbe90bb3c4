"""The tables that SQL sees, filled from a snapshot's rows."""

import sqlite3
from typing import TYPE_CHECKING, Any

from ..rows import COLUMNS

if TYPE_CHECKING:
    from ..query import Snapshot

TABLE = "malloc_sample_info"
FRAMES = "malloc_sample_frames"
VIEW = "__all_virtual_malloc_sample_info"  # OceanBase's name
TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}
_FRAME_COLUMNS = (
    "sample_row INTEGER, position INTEGER, kind TEXT, function TEXT, file TEXT, line INTEGER, module TEXT,"
    " vaddr INTEGER, inlined INTEGER, placed INTEGER"
)
_INTEGER_MOST = (1 << 63) - 1


def fill(connection: sqlite3.Connection, snapshot: "Snapshot", *, frames: bool = True) -> None:
    """Create the tables and insert every row of *snapshot*; its frames only if asked to: they are many."""
    rows = snapshot.rows()
    columns = ", ".join(f'"{name}" {TYPES[kind]}' for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")
    marks = ", ".join("?" * len(COLUMNS))
    connection.executemany(
        f"INSERT INTO {TABLE} VALUES ({marks})",
        (tuple(_storable(value) for value in row.values()) for row in rows),
    )
    connection.execute(f"CREATE TABLE {FRAMES} ({_FRAME_COLUMNS})")
    if frames:
        connection.executemany(
            f"INSERT INTO {FRAMES} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (number, position, *(_storable(value) for value in frame))
                for number, row in enumerate(rows, 1)
                for position, frame in enumerate(row.frames)
            ),
        )
    connection.execute(f"CREATE VIEW {VIEW} AS SELECT * FROM {TABLE}")
    connection.commit()


def _storable(value: Any) -> Any:
    """Return *value* as sqlite3 can store it: integers are cut at 63 bits, bytes that are no text become `?`."""
    if isinstance(value, int) and value > _INTEGER_MOST:
        return _INTEGER_MOST
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
