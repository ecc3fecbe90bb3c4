"""MySQL's error codes, and which of them stands for what sqlite or a query refuses."""

import re
from collections.abc import Callable
from typing import NamedTuple

from mysql_mimic.errors import MysqlError

from ..errors import QueryError
from ..sql import ALIAS, TABLES, QueryTimeout

DATABASE = "oceanbase"


class Code(NamedTuple):
    """One error of MySQL's: its number and SQLSTATE."""

    number: int
    state: str


ACCESS_DENIED = Code(1045, "28000")
NO_DATABASE = Code(1046, "3D000")
UNKNOWN_COMMAND = Code(1047, "08S01")
UNKNOWN_DATABASE = Code(1049, "42000")
AMBIGUOUS_COLUMN = Code(1052, "23000")
UNKNOWN_COLUMN = Code(1054, "42S22")
SYNTAX = Code(1064, "42000")
EMPTY_QUERY = Code(1065, "42000")
UNKNOWN_TABLE = Code(1109, "42S02")
TOO_BIG_SELECT = Code(1104, "42000")
INTERNAL = Code(1105, "HY000")
OUT_OF_RESOURCES = Code(1041, "HY000")
TABLE_DENIED = Code(1142, "42000")
NO_SUCH_TABLE = Code(1146, "42S02")
PACKET_TOO_LARGE = Code(1153, "08S01")
UNKNOWN_VARIABLE = Code(1193, "HY000")
WRONG_VALUE = Code(1231, "42000")
WRONG_TYPE = Code(1232, "42000")
NOT_SUPPORTED = Code(1235, "42000")
READ_ONLY = Code(1290, "HY000")
NO_SUCH_FUNCTION = Code(1305, "42000")
TOO_MANY_STATEMENTS = Code(1461, "42000")
WRONG_PARAMETERS = Code(1582, "42000")
TOO_MANY_CONNECTIONS = Code(1040, "08004")
TIMEOUT = Code(3024, "HY000")
NOT_SECURE = Code(3159, "HY000")

STATES = {code.number: code.state for code in list(globals().values()) if isinstance(code, Code)}


class SqlError(MysqlError):  # type: ignore[misc]
    """An error that the client is told."""

    def __init__(self, code: Code, message: str) -> None:
        """Take MySQL's code and a message in its words."""
        super().__init__(message, code.number)


def syntax_error(near: str, line: int = 1) -> SqlError:
    """Return MySQL's error for a statement that cannot be parsed from *near* on."""
    return SqlError(
        SYNTAX,
        "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the"
        f" right syntax to use near '{near[:80]}' at line {line}",
    )


def no_such_table(name: str) -> SqlError:
    """Return MySQL's error for a table that does not exist."""
    return SqlError(NO_SUCH_TABLE, f"Table '{DATABASE}.{name}' doesn't exist")


def read_only() -> SqlError:
    """Return MySQL's error for a statement that would write."""
    return SqlError(
        READ_ONLY, "The MySQL server is running with the --read-only option so it cannot execute this statement"
    )


def _unknown_column(name: str) -> SqlError:
    return SqlError(UNKNOWN_COLUMN, f"Unknown column '{name}' in 'field list'")


_Make = Callable[[str], SqlError]
_MEANINGS: tuple[tuple[str, _Make], ...] = (
    (r"no such column: (?P<name>.*)", _unknown_column),
    (r"cannot join using column (?P<name>\S+)", _unknown_column),
    (r"no such table: (?:main\.)?(?P<name>.*)", no_such_table),
    (
        r"ambiguous column name: (?P<name>.*)",
        lambda name: SqlError(AMBIGUOUS_COLUMN, f"Column '{name}' in field list is ambiguous"),
    ),
    (
        r"no such function: (?P<name>.*)",
        lambda name: SqlError(NO_SUCH_FUNCTION, f"FUNCTION {DATABASE}.{name} does not exist"),
    ),
    (
        r"wrong number of arguments to function (?P<name>\w+)",
        lambda name: SqlError(WRONG_PARAMETERS, f"Incorrect parameter count in the call to native function '{name}'"),
    ),
    (r'near "(?P<name>.*)": syntax error', syntax_error),
    (r"(?P<name>incomplete input)", lambda _: syntax_error("")),
    (r"(?P<name>string or blob too big)", lambda words: SqlError(TOO_BIG_SELECT, f"The answer has a {words}")),
    (r"(?P<name>more than .*)", lambda words: SqlError(TOO_BIG_SELECT, f"The answer has {words}")),
    (
        r"(?P<name>.*not enough memory.*|out of memory)",
        lambda _: SqlError(OUT_OF_RESOURCES, "Out of memory: select less, or add a LIMIT"),
    ),
)


def of_query(error: QueryError) -> SqlError:
    """Return what MySQL says instead of the words for a query that was refused."""
    words = str(error)
    if isinstance(error, QueryTimeout):
        return SqlError(TIMEOUT, "Query execution was interrupted, maximum statement execution time exceeded")
    if words.startswith("only SELECT"):
        return SqlError(TABLE_DENIED, f"Only {', '.join(TABLES)} and {ALIAS} can be read")
    bare = words.removeprefix("SQL: ")
    for pattern, make in _MEANINGS:
        found = re.match(pattern, bare)
        if found:
            return make(found["name"])
    return SqlError(INTERNAL, bare)
