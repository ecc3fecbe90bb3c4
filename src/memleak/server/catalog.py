"""What SHOW and DESC tell of the tables, and MySQL's types."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from mysql_mimic.results import ResultColumn
from mysql_mimic.types import ColumnType

from ..sql import ALIAS, SAMPLES, TABLES
from . import codes
from .codes import DATABASE

# The types of OceanBase's table.
_PAGE = {
    "svr_ip": "varchar(46)", "svr_port": "bigint(20)", "tenant_id": "bigint(20)", "ctx_id": "bigint(20)",
    "mod_name": "varchar(256)", "back_trace": "varchar(4096)", "ctx_name": "varchar(256)", "alloc_count": "bigint(20)",
    "alloc_bytes": "bigint(20)",
}  # fmt: skip
_TYPES = {str: "longtext", int: "bigint(20)", float: "double", bool: "tinyint(1)"}
_NEVER_NULL = {"tenant_id", "ctx_id", "back_trace", "alloc_count", "alloc_bytes", "stack_id"}

Answer = tuple[Sequence[str], list[tuple[Any, ...]]]


def columns(table: str, like: Optional[str], *, full: bool) -> Answer:
    """Return the rows of DESC, with more columns if *full*.

    Raises:
        SqlError: there is no such table.
    """
    known = {name.lower(): name for name in TABLES} | {ALIAS: SAMPLES}
    name = known.get(table.lower())
    if name is None:
        raise codes.no_such_table(table)
    kinds = TABLES[name].columns
    matches = matching(like)
    rows = []
    for column, kind in kinds.items():
        if not matches(column):
            continue
        of_page = name == SAMPLES and column in _PAGE
        mysql_type = _PAGE[column] if of_page else _TYPES[kind]
        null = "NO" if of_page or column in _NEVER_NULL else "YES"
        row = (column, mysql_type, null, "", None, "")
        rows.append((*row[:2], "utf8mb4_general_ci" if kind is str else None, *row[2:], "select", "") if full else row)
    head = ("Field", "Type", "Null", "Key", "Default", "Extra")
    return (*head[:2], "Collation", *head[2:], "Privileges", "Comment") if full else head, rows


def tables(like: Optional[str], *, full: bool) -> Answer:
    """Return the rows of SHOW TABLES."""
    matches = matching(like)
    head = f"Tables_in_{DATABASE}" + (f" ({like})" if like is not None else "")
    names = [name for name in sorted((ALIAS, *TABLES)) if matches(name)]
    if full:
        return (head, "Table_type"), [(name, "VIEW" if name == ALIAS else "BASE TABLE") for name in names]
    return (head,), [(name,) for name in names]


def matching(like: Optional[str]) -> Any:
    """Return a function that tells whether a name is like a pattern of MySQL's."""
    if like is None:
        return lambda name: True
    pieces: Iterable[tuple[str, str]] = re.findall(r"\\(.)|(.)", like, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    pattern = "".join(re.escape(kept) if kept else wild.get(c, re.escape(c)) for kept, c in pieces)
    return re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch


def result_columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[ResultColumn]:
    """Return the columns of an answer, typed by their values: numbers, or text."""
    found = []
    for at, name in enumerate(names):
        kinds = {type(row[at]) for row in rows} - {type(None)}
        if kinds <= {int, bool} and kinds:
            kind = ColumnType.LONGLONG
        elif kinds <= {int, bool, float} and kinds:
            kind = ColumnType.DOUBLE
        else:
            kind = ColumnType.VAR_STRING
        found.append(ResultColumn(name, kind))
    return found
