"""The shape of an SQL statement: the same for all its parameters, and nothing of their values in it."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

from ..labels import VALUE_CHARACTERS, label

_CACHED = 1024
_CACHED_CHARACTERS = 8192  # longer statements are looked at each time: they are not held on to
_LOOKED_AT_CHARACTERS = 100_000
_DIGEST_BYTES = 4

_TOKEN = r"""
    (?P<comment> {comment} | /\*.*?(?:\*/|\Z) )
  | (?P<text> {text} | \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z) )
  | (?P<double> {double} )
  | (?P<name> `(?:[^`]|``)*(?:`|\Z) | \[[A-Za-z_][^\]\n]*\] | [^\W\d][\w$]* )
  | (?P<mark> \?\d* | %s | %\(\w+\)s | (?<!:):\w+ | \$\d+ )
  | (?P<number> 0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? )
  | (?P<space> \s+ )
  | (?P<other> :: | . )
"""
# A backslash escapes in MySQL's texts, and in PostgreSQL's E'…'; taken for an escape where it is none, it would turn
# texts and what is between them inside out. Oracle has q'[…]', here bounded: one that does not end is none.
_STANDARD = _TOKEN.format(
    comment=r"--[^\n]*",
    text=r"""[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)
      | [nN]?[qQ]'(?:\[.{0,2000}?\]|\{.{0,2000}?\}|\(.{0,2000}?\)|<.{0,2000}?>
        |(?P<quote>[^\s\[{(<]).{0,2000}?(?P=quote))'
      | [bBnNxX]?'(?:[^']|'')*(?:'|\Z)""",
    double=r"""\"(?:[^\"]|\"\")*(?:\"|\Z)""",
)
_MYSQL = _TOKEN.format(
    comment=r"(?:--|\#)[^\n]*",
    text=r"""[bBnNxX]?'(?:[^'\\]|''|\\.)*(?:'|\Z)""",
    double=r"""\"(?:[^\"\\]|\"\"|\\.)*(?:\"|\Z)""",
)
_TOKENS = {
    "name": re.compile(_STANDARD, re.VERBOSE | re.DOTALL),
    "text": re.compile(_MYSQL, re.VERBOSE | re.DOTALL),
}
_LIST = re.compile(r"\b(IN|ANY|ALL|ARRAY)( ?)([(\[])[-+]?\?(?:, ?[-+]?\?)+([)\]])", re.IGNORECASE)
_VALUES = re.compile(r"\b(VALUES?) ?(\((?:[^()]|\([^()]*\))*\))(?:, ?\((?:[^()]|\([^()]*\))*\))+", re.IGNORECASE)


def fingerprint(sql: object, *, double_quotes: str = "name") -> str:
    """Return a statement with each literal and each placeholder as `?`, lists and rows of them as one, blanks as one.

    Args:
        sql: the statement: text, bytes, or what turns into text.
        double_quotes: what stands in double quotes, a "name" as in standard SQL, or a "text" as in MySQL, whose
            comments and backslashes are then understood, too.

    Returns:
        At most 200 characters; of a longer one its beginning and a digest of the whole.
    """
    text = sql.decode("utf-8", "replace") if isinstance(sql, (bytes, bytearray)) else str(sql)
    parts: list[str] = []
    for token in _TOKENS[double_quotes].finditer(text[:_LOOKED_AT_CHARACTERS]):
        kind = token.lastgroup
        if kind in ("comment", "space"):
            parts.append(" ")
        elif kind in ("text", "tag", "quote", "mark", "number") or (kind == "double" and double_quotes == "text"):
            parts.append("?")
        else:
            parts.append(token.group())
    shape = " ".join("".join(parts).split()).rstrip("; ")
    shape = re.sub(r" ?, ?", ", ", re.sub(r"\( ", "(", re.sub(r" \)", ")", shape)))
    shape = _VALUES.sub(r"\1 \2", _LIST.sub(r"\1\2\3?\4", shape))
    if len(shape) > VALUE_CHARACTERS:
        digest = blake2b(shape.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).hexdigest()
        shape = f"{shape[: VALUE_CHARACTERS - len(digest) - 1]}…{digest}"
    return shape


def label_of(sql: object, double_quotes: str = "name", raw: bool = False, outcome: object = False) -> label:
    """Return the label of a statement; *raw*: with its text as it is, literals and all; *outcome*: as of `label`."""
    if isinstance(sql, (str, bytes)) and len(sql) <= _CACHED_CHARACTERS:
        return _label_of(sql, double_quotes, raw, outcome)
    return _made(sql, double_quotes, raw, outcome)


def _made(sql: object, double_quotes: str, raw: bool, outcome: object) -> label:
    try:
        shape = " ".join(str(sql).split()) if raw else fingerprint(sql, double_quotes=double_quotes)
        return label(sql=shape, outcome=outcome)
    except Exception:  # an object of the program's own: its statement must run all the same
        return label(sql="?", outcome=outcome)


_label_of = lru_cache(_CACHED)(_made)
