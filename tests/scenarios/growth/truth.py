"""What the programs of programs/ say of themselves, in the comment at their top.

A block of lines `KEY: VALUE` that begins with `scenario:` is one scenario:

    scenario: NAME
    arguments: words for the program; {socket} is a MariaDB server's
    verdict: what is expected at the blamed line, one or more, with "or" between them
    rate: bytes a second that leak there, a product of numbers
    beside: likewise, at lines that leak, too
    least: the same, where it is known but for overhead: at least this, and less than half as much again
    level: bytes at which it will level, likewise; "none" if it never will
    above: bytes by which that is above the limit, likewise with minus
    limit: RLIMIT_AS of the program, in bytes
    needs: mariadb
    pool: name of an allocator of its own
    capacity: bytes of that pool's regions
    used: bytes in use of it before anything leaks
    mismatch: kind of mismatched free
    mismatches: how many a second
    seconds: how long it runs in full mode (26)
    mode: full (which is usual), normal or both

The blamed line ends with the word `blamed` in a comment; `kept with it` ends lines whose blocks what leaks there holds,
and `leaks, too` those of other leaks. In a program with an allocator of its own `gives it out` ends lines of that
allocator, which are passed over, `pins` that whose blocks keep its regions, and `freed the wrong way` that of the
mismatched free of what was allocated where it `leaks, too`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

from memleak.verdict import LEAK, VERDICTS

PROGRAMS = Path(__file__).resolve().parent / "programs"
ROOT = PROGRAMS.parents[3]
FURTHER: tuple[Path, ...] = (ROOT / "examples/buddy/buddy.c",)  # programs that lie elsewhere
HELPERS = ("pace.py", "stored_cursor.py")
KEYS = (
    "scenario", "arguments", "verdict", "rate", "beside", "least", "level", "above", "limit", "needs", "pool",
    "capacity", "used", "mismatch", "mismatches", "seconds", "mode",
)  # fmt: skip
USUAL_S = 26.0


class Pool(NamedTuple):
    """What is true of an allocator of the program's own."""

    name: str
    capacity: float
    used: float  # at the start
    grows: float  # bytes a second
    mismatch: str
    mismatches: float  # a second
    gives_out: tuple[int, ...]  # lines that are its own
    pins: int  # the line whose blocks keep its regions
    allocated: int  # those that are freed the wrong way
    freed: int  # where they are


class Scenario(NamedTuple):
    """A program with its arguments, and the truth of it."""

    name: str
    source: Path
    arguments: tuple[str, ...]
    line: int  # the blamed one
    with_it: tuple[int, ...]  # other lines that leak
    verdicts: tuple[str, ...]
    rate: float | None
    least: float | None
    level: float | None
    above: float | None
    limit: int | None
    needs: str | None
    seconds: float
    modes: tuple[str, ...]
    pool: Pool | None

    @property
    def leaks(self) -> bool:
        """Whether a leak is expected."""
        return LEAK in self.verdicts

    @property
    def place(self) -> str:
        """The blamed line, for people."""
        return f"{self.source.name}:{self.line}"


def scenarios() -> list[Scenario]:
    """Return all there are."""
    sources = sorted(path for path in PROGRAMS.iterdir() if path.suffix in (".c", ".py") and path.name not in HELPERS)
    return [found for source in (*sources, *FURTHER) for found in read(source)]


def read(source: Path) -> list[Scenario]:
    """Return the scenarios of one program.

    Raises:
        ValueError: its top does not say what it must.
    """
    text = source.read_text()
    blamed, with_it = _marked(text, "blamed"), _marked(text, "kept with it|leaks, too")
    if len(blamed) != 1:
        raise ValueError(f"{source}: {len(blamed)} lines are blamed; it takes one")
    blocks = re.findall(r"^ *scenario: .*\n(?: *[a-z]+: .*\n)*", text, re.MULTILINE)
    if not blocks:
        raise ValueError(f"{source}: no scenario at its top")
    return [_scenario(source, text, blamed[0], tuple(with_it), block) for block in blocks]


def _marked(text: str, word: str) -> list[int]:
    """Return the numbers of lines that end with a comment of this word."""
    mark = re.compile(rf"(#|/\*|//) ({word})( \*/)?$")
    return [number for number, line in enumerate(text.splitlines(), 1) if mark.search(line)]


def _scenario(source: Path, text: str, line: int, with_it: tuple[int, ...], block: str) -> Scenario:
    said = dict(words.strip().split(": ", 1) for words in block.splitlines())
    verdicts = tuple(said.get("verdict", "").split(" or "))
    mode = said.get("mode", "full")
    if set(said) - set(KEYS) or set(verdicts) - set(VERDICTS) or mode not in ("full", "normal", "both"):
        raise ValueError(f"{source}: {said}: not as truth.py wants it")
    limit = said.get("limit")
    return Scenario(
        said["scenario"], source, tuple(said.get("arguments", "").split()), line, with_it, verdicts,
        _number(said.get("rate")), _number(said.get("least")), _number(said.get("level")), _number(said.get("above")),
        None if limit is None else int(limit), said.get("needs"), float(said.get("seconds", USUAL_S)),
        ("full", "normal") if mode == "both" else (mode,), _pool(text, said) if "pool" in said else None,
    )  # fmt: skip


def _pool(text: str, said: dict[str, str]) -> Pool:
    (pins,), (allocated,), (freed,) = (_marked(text, word) for word in ("pins", "leaks, too", "freed the wrong way"))
    return Pool(
        said["pool"], _number(said["capacity"]), _number(said["used"]),
        _number(said["rate"]) + _number(said["beside"]), said["mismatch"], _number(said["mismatches"]),
        tuple(_marked(text, "gives it out")), pins, allocated, freed,
    )  # fmt: skip


def _number(words: str | None) -> float | None:
    """Return the value of products and quotients of numbers with minus between them."""
    if words is None:
        return None
    if words == "none":
        return math.inf
    terms = []
    for term in words.split(" - "):
        value = 1.0
        for sign, number in re.findall(r"([*/]?) ?(\d+)", term):
            value = value / int(number) if sign == "/" else value * int(number)
        terms.append(value)
    return terms[0] - sum(terms[1:])
