"""From MySQL's SELECT to sqlite's."""

from collections.abc import Mapping
from typing import Any, Optional

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from ..sql import ALIAS, TABLES
from . import codes
from .codes import DATABASE, SqlError

STATEMENT_MOST = 64 << 10
DATABASES = (DATABASE, "memleak")  # two names of one

_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable, exp.Merge, exp.Grant)
_TABLES = {name.lower() for name in (*TABLES, ALIAS)}


class _Sqlite(SQLite):  # type: ignore[misc]
    """Quoted names stand between backticks: what stands between double quotes sqlite may take for a string."""

    class Tokenizer(SQLite.Tokenizer):  # type: ignore[misc]
        IDENTIFIERS = ["`"]  # noqa: RUF012 - sqlglot's own way


class Translated:
    """A SELECT for sqlite, and what MySQL calls the columns of its answer."""

    def __init__(self, sql: str, names: Optional[list[Optional[str]]], *, has_tables: bool) -> None:
        """Take the statement; a name is None where sqlite's will do."""
        self.sql = sql
        self.has_tables = has_tables
        self._names = names

    def name(self, columns: tuple[str, ...]) -> list[str]:
        """Return the columns' names."""
        names = self._names
        if names is None or len(names) != len(columns):
            return list(columns)
        return [column if name is None else name for name, column in zip(names, columns)]


def parse(statement: str) -> exp.Expression:
    """Return the one statement that stands in *statement*.

    Raises:
        SqlError: it cannot be parsed, or there are several.
    """
    if len(statement) > STATEMENT_MOST:
        raise SqlError(codes.PACKET_TOO_LARGE, f"A statement of more than {STATEMENT_MOST >> 10} KiB")
    try:
        found = [one for one in sqlglot.parse(statement, read="mysql") if one is not None]
    except SqlglotError as error:
        raise _syntax_error(error, statement) from None
    except RecursionError:
        raise codes.syntax_error(statement) from None
    if not found:
        raise SqlError(codes.EMPTY_QUERY, "Query was empty")
    if len(found) > 1:
        raise codes.syntax_error(found[1].sql(dialect="mysql"))
    return found[0]


def translate(tree: exp.Expression, statement: str, values: Mapping[str, Any]) -> Translated:
    """Return sqlite's statement for a parsed SELECT.

    Args:
        tree: what `parse` returned.
        statement: its text, from which columns without a name get theirs.
        values: what functions about the session and its variables (`@@name`) return.

    Raises:
        SqlError: it writes, or names a table, database or variable that does not exist.
    """
    if isinstance(tree, _WRITES):
        raise codes.read_only()
    if not isinstance(tree, exp.Query):
        raise codes.syntax_error(statement)
    names = _names(tree, statement)
    try:
        _check_tables(tree, values["database"])
        sql = tree.transform(lambda node: _replaced(node, values)).sql(dialect=_Sqlite)
    except RecursionError:
        raise codes.syntax_error(statement) from None
    return Translated(sql, names, has_tables=tree.find(exp.Table) is not None)


def _check_tables(tree: exp.Expression, current: Optional[str]) -> None:
    """Refuse what is no table of ours, and take the database away from those that are."""
    if next(tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Into), None) is not None:
        raise codes.read_only()
    defined = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        database, name = table.text("db").lower(), table.name
        if database and database not in DATABASES:
            if database == "information_schema":
                raise SqlError(codes.UNKNOWN_TABLE, f"Unknown table '{name}' in information_schema")
            raise SqlError(codes.UNKNOWN_DATABASE, f"Unknown database '{database}'")
        if not isinstance(table.this, exp.Identifier) or name.lower() not in _TABLES | defined:
            raise codes.no_such_table(name or table.sql(dialect="mysql"))
        if not database and current is None and name.lower() not in defined:
            raise SqlError(codes.NO_DATABASE, "No database selected")
        table.set("db", None)
        table.set("catalog", None)


def _replaced(node: exp.Expression, values: Mapping[str, Any]) -> exp.Expression:
    if isinstance(node, exp.SessionParameter):
        name = node.name.lower()
        if name not in values:
            raise SqlError(codes.UNKNOWN_VARIABLE, f"Unknown system variable '{node.name}'")
        return exp.convert(values[name])
    if isinstance(node, exp.Parameter):
        return exp.null()  # a variable of the user's that was never set
    if isinstance(node, (exp.Anonymous, exp.Func)):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        key = _FUNCTIONS.get(name)
        if key is not None and not node.expressions:
            return exp.convert(values[key])
    return node


# Function -> the value of the session that it returns.
_FUNCTIONS = {
    "version": "version", "current_version": "version", "database": "database", "schema": "database",
    "current_schema": "database", "current_database": "database", "user": "user", "current_user": "user",
    "session_user": "user", "system_user": "user", "connection_id": "connection_id",
}  # fmt: skip


def _names(tree: exp.Expression, statement: str) -> Optional[list[Optional[str]]]:
    """Return what MySQL calls the columns of a SELECT: their aliases, else their text as it was written."""
    if not isinstance(tree, exp.Select) or tree.is_star:
        return None
    texts = _written(statement)
    if len(texts) != len(tree.expressions):
        return None
    return [
        None if isinstance(one, (exp.Alias, exp.Column)) else text for one, text in zip(tree.expressions, texts)
    ]


def _written(statement: str) -> list[str]:
    """Return the texts between the commas behind the first SELECT that is not in parentheses."""
    texts: list[str] = []
    depth, began = 0, None
    tokens: list[Token] = sqlglot.tokenize(statement, read="mysql")
    ends = {TokenType.FROM, TokenType.LIMIT, TokenType.SEMICOLON, TokenType.UNION, TokenType.WHERE, TokenType.ORDER_BY}
    for token in tokens:
        if token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN):
            depth += 1 if token.token_type == TokenType.L_PAREN else -1
        elif depth == 0 and began is None and token.token_type == TokenType.SELECT:
            began = token.end + 1
        elif depth == 0 and began is not None and (token.token_type == TokenType.COMMA or token.token_type in ends):
            texts.append(statement[began : token.start].strip())
            if token.token_type in ends:
                return texts
            began = token.end + 1
    return texts if began is None else [*texts, statement[began:].strip()]


def _syntax_error(error: SqlglotError, statement: str) -> SqlError:
    details = getattr(error, "errors", None) or [{}]
    near, line = details[0].get("highlight"), details[0].get("line") or 1
    at = statement.find(near) if near else -1
    return codes.syntax_error(statement[at:] if at >= 0 else statement, line)
