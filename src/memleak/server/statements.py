"""Statements that are no SELECT: which of them a text is, and its parts."""

import re
from typing import NamedTuple, Optional, Union

from . import codes
from .codes import SqlError


class AlterSystem(NamedTuple):
    """`ALTER SYSTEM SET name = value, … [SERVER = 'ip:port']`."""

    values: dict[str, str]
    server: Optional[str]


class Show(NamedTuple):
    """`SHOW kind [FROM target [FROM database]] [LIKE 'pattern']`; `DESC table` is one, too."""

    kind: str
    target: Optional[str] = None
    database: Optional[str] = None
    like: Optional[str] = None
    full: bool = False


class Use(NamedTuple):
    """`USE database`."""

    database: str


class Assign(NamedTuple):
    """`SET variable = value, …`: the names."""

    names: tuple[str, ...]


class Nothing(NamedTuple):
    """A statement of transactions, which there are none of."""


Statement = Union[AlterSystem, Show, Use, Assign, Nothing]

_NAME = r"(?:`[^`]+`|[A-Za-z_$][\w$]*)"
_STRING = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\""
_VALUE = rf"(?:{_STRING}|[^\s,=]+)"
_COMMENT = re.compile(r"\s*(?:/\*(?!!).*?\*/|--(?:[ \t][^\n]*)?(?:\n|\Z)|#[^\n]*)", re.DOTALL)
_ALTER = re.compile(r"ALTER\s+SYSTEM\s+(?:SET\s+)?(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_ASSIGNMENT = re.compile(rf"\s*(?P<name>{_NAME})\s*=\s*(?P<value>{_VALUE})\s*", re.IGNORECASE | re.DOTALL)
_SHOW = re.compile(
    r"SHOW\s+(?:(?P<scope>GLOBAL|SESSION|LOCAL|EXTENDED)\s+)?(?P<full>FULL\s+)?"
    r"(?P<kind>PARAMETERS|TABLES|DATABASES|SCHEMAS|COLUMNS|FIELDS|VARIABLES|STATUS|WARNINGS|ERRORS|ENGINES|PLUGINS|"
    r"INDEX|INDEXES|KEYS|TABLE\s+STATUS|TRIGGERS|EVENTS|PROCESSLIST|COLLATION|CHARACTER\s+SET)"
    rf"(?:\s+(?:FROM|IN)\s+(?P<target>{_NAME}(?:\s*\.\s*{_NAME})?))?(?:\s+(?:FROM|IN)\s+(?P<database>{_NAME}))?"
    rf"(?:\s+LIKE\s+(?P<like>{_STRING}))?\s*",
    re.IGNORECASE,
)
_DESCRIBE = re.compile(
    rf"(?:DESC|DESCRIBE|EXPLAIN)\s+(?P<target>{_NAME}(?:\s*\.\s*{_NAME})?)(?:\s+(?P<like>{_NAME}|{_STRING}))?\s*",
    re.IGNORECASE,
)
_USE = re.compile(rf"USE\s+(?P<database>{_NAME})\s*", re.IGNORECASE)
_SET = re.compile(r"SET\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SET_WORDS = re.compile(
    r"(?:NAMES|CHARACTER\s+SET|CHARSET|(?:SESSION\s+|GLOBAL\s+)?TRANSACTION)\b.*", re.IGNORECASE | re.DOTALL
)
_VARIABLE = re.compile(
    rf"\s*(?:(?:GLOBAL|SESSION|LOCAL)\s+|@@(?:(?:global|session|local)\s*\.\s*)?)?(?P<name>@?{_NAME})\s*:?=\s*"
    r"(?P<value>[^,(]*(?:\([^)]*\)[^,(]*)*)",
    re.IGNORECASE,
)
_TRANSACTION = re.compile(
    r"(?:BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK)(?:\s+(?:WORK|READ\s+ONLY|WITH\s+CONSISTENT\s+SNAPSHOT))*\s*",
    re.IGNORECASE,
)
_WRITING = re.compile(
    r"(?:INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER|TRUNCATE|RENAME|LOAD|GRANT|REVOKE|CALL|LOCK|UNLOCK|FLUSH|RESET|"
    r"ANALYZE|OPTIMIZE|REPAIR|INSTALL|UNINSTALL|SHUTDOWN|KILL|HANDLER|DO|PURGE|CHANGE|IMPORT)\b",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(r"/\*!\d*\s?((?:(?!\*/).)*)\*/", re.DOTALL)


def bare(text: str) -> str:
    """Return a statement without comments around it and the semicolon at its end."""
    while comment := _COMMENT.match(text):
        text = text[comment.end() :]
    text = text.strip().rstrip(";").strip()
    conditional = _CONDITIONAL.fullmatch(text)
    return conditional[1].strip() if conditional else text


def recognize(text: str) -> Optional[Statement]:
    """Return what a bare statement is; None for one that only a parser of SELECT can tell.

    Raises:
        SqlError: it begins like one of these and goes on otherwise, or it would write.
    """
    found = _ALTER.fullmatch(text)
    if found:
        return _alter(found["rest"], text)
    found = _SHOW.fullmatch(text)
    if found:
        target, database = _split(found["target"], found["database"])
        kind = re.sub(r"\s+", " ", found["kind"].upper())
        kind = {"FIELDS": "COLUMNS", "SCHEMAS": "DATABASES", "INDEXES": "INDEX", "KEYS": "INDEX"}.get(kind, kind)
        if kind in ("TABLES", "TABLE STATUS") and target is not None:
            target, database = None, target
        like = None if found["like"] is None else unquoted(found["like"])
        return Show(kind, target, database, like, full=bool(found["full"]))
    found = _DESCRIBE.fullmatch(text)
    if found and found["target"].upper() not in ("SELECT", "WITH"):
        target, database = _split(found["target"], None)
        return Show("COLUMNS", target, database, None if found["like"] is None else unquoted(found["like"]))
    found = _USE.fullmatch(text)
    if found:
        return Use(unquoted(found["database"]))
    found = _SET.fullmatch(text)
    if found:
        return _assign(found["rest"])
    if _TRANSACTION.fullmatch(text):
        return Nothing()
    if _WRITING.match(text):
        raise codes.read_only()
    return None


def unquoted(word: str) -> str:
    """Return a name or string without its quotes."""
    if word[:1] not in ("'", '"', "`"):
        return word
    quote, inner = word[0], word[1:-1]
    if quote == "`":
        return inner
    # What LIKE takes for itself stays escaped.
    return re.sub(r"\\([^%_])", r"\1", inner.replace(quote * 2, quote))


def _alter(rest: str, text: str) -> AlterSystem:
    values: dict[str, str] = {}
    server, at, separated = None, 0, True
    while at < len(rest):
        found = _ASSIGNMENT.match(rest, at)
        if found is None:
            raise codes.syntax_error(rest[at:].lstrip())
        name, value = unquoted(found["name"]), unquoted(found["value"])
        clause = name.upper() if values else ""
        if clause == "SERVER":
            server = value
        elif clause == "SCOPE" and value.upper() in ("BOTH", "MEMORY"):
            pass
        elif clause in ("SCOPE", "TENANT", "ZONE"):
            raise SqlError(codes.NOT_SUPPORTED, f"This version of MySQL doesn't yet support '{clause} = {value}'")
        elif not separated:
            raise codes.syntax_error(rest[at:].lstrip())
        else:
            values[name] = value
        at = found.end()
        separated = rest[at : at + 1] == ","
        at += separated
    if not values or separated:
        raise codes.syntax_error("" if values else text)
    return AlterSystem(values, server)


def _assign(rest: str) -> Assign:
    if _SET_WORDS.fullmatch(rest):
        return Assign(())
    names, at = [], 0
    while at < len(rest):
        found = _VARIABLE.match(rest, at)
        if found is None or not found["value"].strip():
            raise codes.syntax_error(rest[at:])
        names.append(unquoted(found["name"]))
        at = found.end() + 1
    return Assign(tuple(names))


def _split(target: Optional[str], database: Optional[str]) -> tuple[Optional[str], Optional[str]]:
    if target is None:
        return None, None if database is None else unquoted(database)
    first, point, second = (part.strip() for part in target.partition("."))
    if point:
        return unquoted(second), unquoted(first)
    return unquoted(target), None if database is None else unquoted(database)
