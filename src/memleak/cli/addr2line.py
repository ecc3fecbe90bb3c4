"""``memleak addr2line``: functions, files and lines of addresses, in the words and the format of GNU addr2line."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .. import tokens
from ..errors import QueryError, TargetError
from ..symbolize.elf import ElfError
from . import gnutext, gnuwords
from .binaries import confined_lines, sources
from .common import Parser, UsageError, add_symbol_options, complain, positive
from .gnutext import Answer

if TYPE_CHECKING:
    from ..processplaces import ProcessPlaces

EPILOG = """\
Addresses are hexadecimal, or SYMBOL, or SYMBOL+OFFSET. Without any, they are read from standard input, one a line,
and answered as they come.

With --pid, addresses are those in a running process; the files that it has mapped are read, and what its run-time
compiler says in /tmp/perf-PID.map.

With --recording, or more than one -e, words are tokens of a back_trace as memleak sql prints it: 0x1234 in the
program itself, lib.so+0x1234 elsewhere, 0x0 is padding. They are return addresses: what is found is the call. A
whole column in quotes, or a line of one, is understood with one -e, too, and so is the token lib.so+0x1234."""

VERB = "addr2line"
STYLES = ("auto", "gnu-v3", "none")


def main(argv: Sequence[str]) -> int:
    """Answer the addresses that are given, or those on standard input."""
    # Its style is optional, and must not be taken for an address.
    options = _parser().parse_intermixed_args(["-C" if word == "--demangle" else word for word in argv])
    style = gnutext.Style(
        options.addresses, options.functions, options.inlines, options.pretty_print, options.basenames
    )
    several = len(options.exe) > 1 and not options.gnu_compat
    if options.sysroot is not None and options.recording is None:
        raise UsageError("--sysroot is for --recording")
    lookup: _Tokens | _Addresses
    if options.recording is not None or options.pid is not None or several:
        others = [options.recording is not None, options.pid is not None, several, options.gnu_compat]
        if options.section is not None or sum(others) > 1:
            raise UsageError("--recording, --pid, several -e, -j and --gnu-compat exclude one another")
        lookup = _Tokens(options)
    else:
        lookup = _Addresses(options)
    for asked in [options.words] if options.words else lines(sys.stdin.fileno()):
        answers = lookup.answers(asked)
        if options.json:
            sys.stdout.buffer.write(b"".join(map(_json, answers)))
        else:
            gnutext.write(answers, style, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return lookup.close()


def _parser() -> Parser:
    text = "Print source lines of addresses, as GNU addr2line does; docs/reference/symbolization.md says what differs."
    # Said here, for argparse would make it each time: a tenth of the time of an answer out of the cache.
    parser = Parser(VERB, text, epilog=EPILOG, usage="memleak addr2line [options] [-e BIN | -r TARGET | --pid PID] [ADDR …]")
    parser.add_argument("words", metavar="ADDR", nargs="*", help="an address or a token")
    parser.add_argument(
        "-e", "--exe", metavar="BIN", action="append", default=[], help="the binary (a.out); repeatable"
    )
    parser.add_argument("-r", "--recording", metavar="TARGET", help="a pid, a recording, or a directory of recordings")
    parser.add_argument("--pid", metavar="PID", type=positive, help="addresses are those in this process")
    parser.add_argument("-f", "--functions", action="store_true", help="functions, too")
    parser.add_argument("-i", "--inlines", action="store_true", help="also what inlined calls were inlined into")
    parser.add_argument(
        "-C", dest="demangle", action="store_const", const="auto", help="readable names of C++ and Rust"
    )
    parser.add_argument("--demangle", choices=STYLES, help="the same")
    parser.add_argument("-a", "--addresses", action="store_true", help="addresses, too")
    parser.add_argument("-p", "--pretty-print", action="store_true", help="one line for each place")
    parser.add_argument("-s", "--basenames", action="store_true", help="files without directories")
    parser.add_argument("-j", "--section", metavar="NAME", help="addresses are offsets in this section")
    parser.add_argument("--gnu-compat", action="store_true", help="as binutils 2.40 even where that is odd")
    add_symbol_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with all that is known")
    return parser


def _json(answer: Answer) -> bytes:
    last = len(answer.frames) - 1
    frames = [
        {
            "function": frame.function,
            "file": frame.file or None,
            "line": frame.line,
            "discriminator": frame.discriminator,
            "inlined": depth < last,
        }
        for depth, frame in enumerate(answer.frames)
    ]
    return json.dumps({"address": answer.address, "frames": frames}).encode() + b"\n"


def lines(fd: int) -> Iterator[list[str]]:
    """Yield the lines that can be read at once, as soon as they can."""
    pending = b""
    while True:
        data = os.read(fd, 1 << 16)
        *complete, pending = (pending + data).split(b"\n")
        if not data and pending:
            complete = [pending]
        if complete:
            yield [os.fsdecode(line) for line in complete]
        if not data:
            return


def pasted(text: str) -> list[str]:
    """Return the tokens of a back_trace; none if *text* is not several of them and no more."""
    found = tokens.words(text)
    return found if len(found) > 1 and all(map(tokens.is_token, found)) else []


class _Addresses:
    """Addresses of one binary, each looked up as it is given; tokens are return addresses."""

    def __init__(self, options: Namespace) -> None:
        self._path = path = options.exe[-1] if options.exe else "a.out"
        self._words = bool(options.words)
        self._compat = options.gnu_compat
        self._section = options.section
        self._demangle = options.demangle in ("auto", "gnu-v3")
        self._places = tokens.GivenPlaces([path])
        try:
            self._lines = confined_lines(path, sources(options), gnu_compat=self._compat)
        except ElfError as error:
            raise TargetError(f"{path}: {error}") from error
        if self._section is not None and not self._lines.has_section(self._section):
            raise TargetError(f"{path}: cannot find section {self._section}")

    def answers(self, asked: Sequence[str]) -> list[Answer]:
        """Return what is to be printed for words or lines."""
        wanted = [one for word in asked for one in self._wanted(word)]
        found = iter(
            self._lines.chains([at for _, at, _ in wanted if at is not None], self._section, demangle=self._demangle)
        )
        return [Answer(shown, [] if at is None else next(found), place) for shown, at, place in wanted]

    def _wanted(self, word: str) -> Iterator[tuple[str, int | None, str | None]]:
        """Yield the addresses that a word is about: (as shown, to be looked up, shown if that gives no file)."""
        several = [] if self._compat else pasted(word)
        for token in several:
            if not tokens.is_padding(token):
                yield self._token(token)
        for piece in [] if several else [word] if self._words else gnuwords.pieces(word):
            meant = gnuwords.parse(piece)
            if isinstance(meant, gnuwords.SymbolWord):
                value = self._lines.address_of(meant.name)
                if value is None and not self._compat and self._names_us(word):
                    yield self._token(word.strip())
                    continue
                meant = 0 if value is None else value + meant.offset
            meant &= (1 << self._lines.bits) - 1
            yield f"0x{meant:0{self._lines.bits // 4}x}", meant, None

    def _names_us(self, word: str) -> bool:
        try:
            self._places.place(word.strip())
        except QueryError:
            return False
        return True

    def _token(self, token: str) -> tuple[str, int | None, str | None]:
        try:
            return token, max(0, self._places.place(token).vaddr - 1), token
        except QueryError:
            return token, None, token

    def close(self) -> int:
        """Say what went wrong; return the exit status."""
        self._lines.close()
        if self._lines.problem is not None:
            complain(VERB, f"{self._path}: {self._lines.problem}")
        return 1 if self._lines.problem is not None else 0


class _Tokens:
    """Tokens of a back_trace, in a recording or in several binaries; names are those of `memleak symbolize`."""

    def __init__(self, options: Namespace) -> None:
        from .. import query  # here: plain addresses need neither
        from .top import named

        self._refused: dict[str, None] = {}
        self._places: tokens.RecordedPlaces | tokens.GivenPlaces | ProcessPlaces
        if options.pid is not None:
            from ..processplaces import ProcessPlaces

            self._places = ProcessPlaces(options.pid)
            self._symbolizer = named(options, str(options.pid))
        elif options.recording is None:
            self._places = tokens.GivenPlaces(options.exe)
            self._symbolizer = named(options, "")
        else:
            self._places = tokens.RecordedPlaces(query.open(options.recording).recordings)
            self._symbolizer = named(options, options.recording)

    def answers(self, asked: Sequence[str]) -> list[Answer]:
        """Return what is to be printed for words or lines, each of one or more tokens."""
        given = [word for text in asked for word in tokens.words(text) if not tokens.is_padding(word)]
        places = list(map(self._place, given))
        found = iter(self._symbolizer.resolve([place for place in places if place is not None]))
        return [
            Answer(token, [] if place is None else next(found), token if place is None else place.shown)
            for token, place in zip(given, places)
        ]

    def _place(self, token: str) -> tokens.Place | None:
        try:
            return self._places.place(token)
        except QueryError as error:
            self._refused.setdefault(str(error))
            return None

    def close(self) -> int:
        """Say what went wrong; return the exit status."""
        self._symbolizer.close()
        problems = [*self._refused, *(f"{path}: {why}" for path, why in self._symbolizer.problems().items())]
        for problem in problems:
            complain(VERB, problem)
        return 1 if problems else 0
