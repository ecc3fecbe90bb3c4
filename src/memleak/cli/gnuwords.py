"""What GNU addr2line takes a word for: an address as C's strtoul reads it, or a symbol and an offset."""

from __future__ import annotations

import os
from typing import NamedTuple

MOST = 2**64 - 1
LINE_BYTES = 99  # of standard input, that one address may take; the rest is the next

_SPACE = " \t\n\v\f\r"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class SymbolWord(NamedTuple):
    """A symbol, and how many bytes further."""

    name: str
    offset: int


def parse(word: str) -> int | SymbolWord:
    """Return the address or the symbol that *word* begins with; 0 if it is neither. The rest is ignored."""
    word = word.partition("\0")[0].lstrip(_SPACE)
    first = word[:1]
    if not first or first in "0123456789" or (first in "abcdefABCDEF" and "+" not in word):
        return number(word, 16)
    end = next((at for at, char in enumerate(word) if char in _SPACE or char == "+"), len(word))
    rest = word[end:].lstrip(_SPACE)
    return SymbolWord(word[:end], number(rest[1:], 0) if rest.startswith("+") else 0)


def number(text: str, base: int) -> int:
    """Return what strtoul() does: the number *text* begins with, in 64 bits."""
    text = text.lstrip(_SPACE)
    negative = text.startswith("-")
    text = text[text[:1] in ("+", "-") :].lower()
    if base in (0, 16) and text.startswith("0x") and text[2:3] and text[2:3] in _DIGITS[:16]:
        base, text = 16, text[2:]
    elif base == 0:
        base = 8 if text.startswith("0") else 10
    digits = 0
    while digits < len(text) and text[digits] in _DIGITS[:base]:
        digits += 1
    value = int(text[:digits] or "0", base)
    if value > MOST:
        return MOST
    return -value & MOST if negative else value


def pieces(line: str) -> list[str]:
    """Split a line of standard input as a buffer of fixed size does."""
    whole = os.fsencode(line) + b"\n"
    return [os.fsdecode(whole[at : at + LINE_BYTES]) for at in range(0, len(whole), LINE_BYTES)]
