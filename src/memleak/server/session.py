"""What one client asks, statement by statement."""

import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from mysql_mimic.results import ResultSet
from mysql_mimic.session import BaseSession
from mysql_mimic.variables import SYSTEM_VARIABLES, GlobalVariables, SessionVariables

from .. import sql
from ..errors import QueryError
from . import catalog, codes, dialect, statements
from .codes import DATABASE, SqlError
from .parameters import COLUMNS, Parameters
from .recordings import Recordings

VERSION = "8.0.29-memleak"
ROWS_MOST = 200_000
BYTES_MOST = 64 << 20

_NOTHING = ResultSet([], [])
_VARIABLES = {
    **SYSTEM_VARIABLES,
    "version": (str, VERSION, False),
    "version_comment": (str, "memleak", False),
    "max_execution_time": (int, round(sql.TIMEOUT_S * 1000), False),
    "read_only": (bool, True, False),
}


class Service(NamedTuple):
    """What all sessions share."""

    recordings: Recordings
    parameters: Parameters


class Session(BaseSession):  # type: ignore[misc]
    """The state of one client, and the answers to its statements."""

    def __init__(self, service: Service) -> None:
        """Begin without a user: `Client.authenticate` names one."""
        self.variables = SessionVariables(GlobalVariables(_VARIABLES))
        self.username: Optional[str] = None
        self.database: Optional[str] = None
        self.warnings: list[str] = []
        self._service = service
        self._connection_id = 0

    async def init(self, connection: Any) -> None:
        """Learn the number of the connection."""
        self._connection_id = connection.connection_id

    async def use(self, database: str) -> None:
        """Change the database.

        Raises:
            SqlError: there is no such database.
        """
        self._use(database)

    def _use(self, database: str) -> None:
        if database.lower() not in dialect.DATABASES:
            raise SqlError(codes.UNKNOWN_DATABASE, f"Unknown database '{database}'")
        self.database = database

    async def handle_query(self, sql: str, attrs: dict[str, str]) -> ResultSet:
        """Answer a statement.

        Raises:
            SqlError: as MySQL would.
        """
        # In this thread, one after the other: names come from a forked child, and threads do not go with that.
        try:
            return self._answer(sql)
        except SqlError:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            raise SqlError(codes.INTERNAL, "memleak serve failed at this statement, see its standard error") from None

    def _answer(self, text: str) -> ResultSet:
        bare = statements.bare(text)
        if not bare:
            raise SqlError(codes.EMPTY_QUERY, "Query was empty")
        if len(bare) > dialect.STATEMENT_MOST:
            raise SqlError(codes.PACKET_TOO_LARGE, f"A statement of more than {dialect.STATEMENT_MOST >> 10} KiB")
        statement = statements.recognize(bare)
        if isinstance(statement, statements.Show):
            return self._show(statement)
        self.warnings = []
        if statement is None:
            return self._select(bare)
        if isinstance(statement, statements.AlterSystem):
            self.warnings = self._service.parameters.assign(statement.values, statement.server)
        elif isinstance(statement, statements.Use):
            self._use(statement.database)
        elif isinstance(statement, statements.Assign):
            self._check_variables(statement.names)
        return _NOTHING

    def _select(self, text: str) -> ResultSet:
        translated = dialect.translate(dialect.parse(text), text, self._values())
        recordings, began = self._service.recordings, time.monotonic()
        content = recordings.content() if translated.has_tables else recordings.no_content()
        left_s = max(0.1, sql.TIMEOUT_S - (time.monotonic() - began))
        try:
            found = sql.answer(content, translated.sql, timeout_s=left_s, rows_most=ROWS_MOST, bytes_most=BYTES_MOST)
        except QueryError as error:
            raise codes.of_query(error) from None
        return _result(translated.name(found.columns), found.rows)

    def _show(self, show: statements.Show) -> ResultSet:
        if show.kind in ("WARNINGS", "ERRORS"):
            told = self.warnings if show.kind == "WARNINGS" else []
            return _result(("Level", "Code", "Message"), [("Warning", codes.INTERNAL.number, words) for words in told])
        self.warnings = []
        if show.database is not None and show.database.lower() not in dialect.DATABASES:
            raise SqlError(codes.UNKNOWN_DATABASE, f"Unknown database '{show.database}'")
        if show.kind == "PARAMETERS":
            return _result(COLUMNS, self._service.parameters.rows(show.like))
        if show.kind == "DATABASES":
            matches = catalog.matching(show.like)
            return _result(("Database",), [(name,) for name in (DATABASE,) if matches(name)])
        if show.kind == "TABLES":
            return _result(*catalog.tables(show.like, full=show.full))
        if show.kind == "COLUMNS":
            if show.target is None:
                raise codes.syntax_error("")
            return _result(*catalog.columns(show.target, show.like, full=show.full))
        if show.kind in ("VARIABLES", "STATUS"):
            matches = catalog.matching(show.like)
            values = self.variables.list() if show.kind == "VARIABLES" else []
            rows = [(name, _shown(value)) for name, value in values if matches(name)]
            return _result(("Variable_name", "Value"), rows)
        raise SqlError(codes.NOT_SUPPORTED, f"This version of MySQL doesn't yet support 'SHOW {show.kind}'")

    def _check_variables(self, names: Sequence[str]) -> None:
        """Refuse variables that do not exist; those that do have no effect here."""
        for name in names:
            if not name.startswith("@") and name.lower() not in _VARIABLES:
                raise SqlError(codes.UNKNOWN_VARIABLE, f"Unknown system variable '{name}'")

    def _values(self) -> dict[str, Any]:
        values = dict(self.variables.list())
        values.update(database=self.database, user=f"{self.username}@localhost", connection_id=self._connection_id)
        return values


def _result(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> ResultSet:
    return ResultSet(rows, catalog.result_columns(names, rows))


def _shown(value: Any) -> Any:
    return {True: "ON", False: "OFF"}[value] if isinstance(value, bool) else value
