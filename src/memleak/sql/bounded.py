"""SQL functions in place of sqlite's own, of which one call can take minutes.

Time is looked at between the steps of a statement. These are one step each: `instr`, `replace` and `trim` of long texts compare
each place with all of a long pattern, and `printf` counts to the width that it is given.
"""

import re
import sqlite3
from typing import Any, Optional

WIDTH_MOST = 1000
_DIRECTIVE = re.compile(r"%(?P<flags>[-+ 0#,!]*)(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?(?:ll?)?(?P<kind>.)", re.DOTALL)


def add(connection: sqlite3.Connection, bytes_most: int) -> None:
    """Define the functions; none returns more than *bytes_most*."""

    def replace(text: Any, old: Any, new: Any) -> Optional[str]:
        if text is None or old is None or new is None:
            return None
        text, old, new = map(_text, (text, old, new))
        if old and len(text) + text.count(old) * (len(new) - len(old)) > bytes_most:
            raise ValueError("the text would be too long")
        return str(text.replace(old, new)) if old else str(text)

    for name in ("printf", "format"):
        connection.create_function(name, -1, printf, deterministic=True)
    connection.create_function("replace", 3, replace, deterministic=True)
    connection.create_function("instr", 2, instr, deterministic=True)
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        for number in (1, 2):
            connection.create_function(name, number, _stripper(strip), deterministic=True)


def instr(text: Any, part: Any) -> Optional[int]:
    """Return where *part* begins in *text*, counted from 1; 0 when it is not there."""
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return int(_text(text).find(_text(part))) + 1


def _stripper(strip: Any) -> Any:
    def stripped(text: Any, characters: Any = " ") -> Optional[str]:
        if text is None or characters is None:
            return None
        # Each character once: there are no more than that many to compare with.
        return str(strip(_text(text), "".join(dict.fromkeys(_text(characters)))))

    return stripped


def printf(form: Any = None, *values: Any) -> Optional[str]:
    """Return *form* with values in the places of its directives, as sqlite's printf does; no place is wider than 1000."""
    if form is None:
        return None
    given = iter(values)

    def place(found: "re.Match[str]") -> str:
        kind, flags = found["kind"], found["flags"]
        if kind == "%":
            return "%"
        width, precision = (
            _int(next(given, 0)) if one == "*" else int(one) if one else None
            for one in (found["width"], found["precision"])
        )
        if max(abs(width or 0), abs(precision or 0)) > WIDTH_MOST:
            raise ValueError(f"printf: a place is at most {WIDTH_MOST} wide")
        return _placed(kind, flags, width, precision, next(given, None))

    return _DIRECTIVE.sub(place, _text(form))


def _placed(kind: str, flags: str, width: Optional[int], precision: Optional[int], value: Any) -> str:
    wide = abs(width or 0)
    if width is not None and width < 0:
        flags += "-"
    signs = "".join([flag for flag in "-+ 0#" if flag in flags])
    exactly = "" if precision is None else f".{max(precision, 0)}"
    if kind in "diuxXo":
        number = _int(value)
        if "," in flags and kind in "diu":
            text = f"{number:{'+' if '+' in flags else ''},}"
            return text.ljust(wide) if "-" in flags else text.rjust(wide)
        return f"%{signs}{wide or ''}{exactly}{kind}" % (number & 0xFFFFFFFFFFFFFFFF if kind in "uxXo" else number)
    if kind in "fFeEgG":
        number_f = _float(value)
        if "," in flags and kind in "fF":
            text = f"{number_f:,{exactly or '.6'}f}"
            return text.ljust(wide) if "-" in flags else text.rjust(wide)
        return f"%{signs}{wide or ''}{exactly}{kind}" % number_f
    if kind in "szqQwc":
        text = "" if value is None else _text(value)
        if kind == "c":
            text = text[:1] * max(1, precision or 1)
        elif precision is not None:
            text = text[: max(precision, 0)]
        if kind == "Q":
            text = "NULL" if value is None else "'" + text.replace("'", "''") + "'"
        elif kind == "q":
            text = text.replace("'", "''")
        elif kind == "w":
            text = text.replace('"', '""')
        return text.ljust(wide) if "-" in flags else text.rjust(wide)
    raise ValueError(f"printf: %{kind} is not known")


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _int(value: Any) -> int:
    return int(_float(value)) if not isinstance(value, int) else value


def _float(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    found = re.match(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", _text(value or ""))
    return float(found[0]) if found else 0.0
