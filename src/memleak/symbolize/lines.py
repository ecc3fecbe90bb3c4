"""Source lines and inlined calls: which engine finds them, and the installed tools that can.

All are asked for mangled names: demangling is done elsewhere, so that one spelling reaches the user
whichever engine it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .process import LineServer, ToolError, find_program

if TYPE_CHECKING:
    from .units import LearnedUnits

TIMEOUT_S = 60.0  # one address; the first of a 500 MB binary takes seconds
MEMORY_BYTES = 16 << 30
MAX_INLINE_DEPTH = 256

_ADDRESS = re.compile(rb"0x[0-9a-f]{1,16}\Z")

ENGINES = ("auto", "memleak", "llvm-symbolizer", "addr2line", "none")


class SourceFrame(NamedTuple):
    """One frame as the tool gave it: mangled, each part None if it did not know."""

    function: str | None
    file: str | None
    line: int | None
    discriminator: int = 0  # which of several blocks of one line; 0: the only one, or not known
    linkage: bool = False  # the name is known to be as linkers spell it; only our own reader tells
    entry: int = 0  # number of the function in the debug information, and its first address; 0: not known
    low: int = 0


class LineEngine(Protocol):
    """Finds source lines; `name` is its own, or the program's."""

    name: str

    def lookup(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """Return the frames of each address, innermost first; [] where nothing is known.

        Raises:
            ToolError: the tool failed on this binary. It may be asked about the next.
        """

    def close(self) -> None:
        """End its process; a later lookup starts a new one."""


def choose_engine(
    engine: str, timeout_s: float = TIMEOUT_S, *, mapped: bool = False, units: LearnedUnits | None = None
) -> LineEngine | None:
    """Return the engine to use, or None if it is not installed (or engine is "none").

    Args:
        engine: one of `ENGINES`.
        timeout_s: of a tool, for one address.
        mapped, units: see `DwarfEngine`.
    """
    if engine in ("auto", "memleak"):
        from .engine import DwarfEngine

        own = DwarfEngine(mapped=mapped, units=units)
        return own if engine == "memleak" else FirstThatCan([own, *_tools(timeout_s)])
    return next(_tools(timeout_s, engine), None)


def _tools(timeout_s: float, engine: str = "auto") -> Iterator[LineEngine]:
    """Yield the installed tools, the better first."""
    if engine in ("auto", "llvm-symbolizer"):
        program = _llvm_symbolizer()
        if program is not None:
            yield LlvmSymbolizer(program, timeout_s)
    if engine in ("auto", "addr2line"):
        program = find_program("addr2line")
        if program is not None:
            yield Addr2line(program, timeout_s)


class FirstThatCan:
    """Our own reader, and a tool for the files that it cannot read (big-endian ones, unknown compression)."""

    def __init__(self, engines: Sequence[LineEngine]) -> None:
        self._engines = engines
        self.name = engines[0].name

    def lookup(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """See `LineEngine`; the error is the first engine's."""
        first: ToolError | None = None
        for engine in self._engines:
            try:
                return engine.lookup(path, addresses)
            except ToolError as error:
                first = first or error
        raise first or ToolError("there is no engine")

    def close(self) -> None:
        """See `LineEngine`."""
        for engine in self._engines:
            engine.close()


def _llvm_symbolizer() -> str | None:
    # Distributions install llvm-symbolizer-17 without the plain name. Before 13 there is no JSON.
    names = ["llvm-symbolizer", *(f"llvm-symbolizer-{version}" for version in range(25, 12, -1))]
    return next((found for found in map(find_program, names) if found), None)


class LlvmSymbolizer:
    """llvm-symbolizer, one process for all binaries: each is parsed once."""

    name = "llvm-symbolizer"

    def __init__(self, program: str, timeout_s: float) -> None:
        self._command = [program, "--output-style=JSON", "--inlines", "--no-demangle"]
        self._timeout_s = timeout_s
        self._server: LineServer | None = None

    def lookup(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """See `LineEngine`."""
        quoted = os.fsencode(path)
        if any(byte in quoted for byte in b'"\n\r'):
            raise ToolError(f"{self.name} cannot be asked about a file of that name")
        if self._server is None:
            self._server = LineServer(self._command, timeout_s=self._timeout_s, memory_bytes=MEMORY_BYTES)
        requests = [b'CODE "%s" 0x%x' % (quoted, address) for address in addresses]
        try:
            answers = self._server.ask(requests, answers=len(requests))
            return [self._frames(answer) for answer in answers]
        except ToolError:
            self.close()
            raise

    def _frames(self, answer: bytes) -> list[SourceFrame]:
        import json

        try:
            reply = json.loads(answer)
            symbols = reply.get("Symbol", [])[:MAX_INLINE_DEPTH]
            frames = [
                SourceFrame(
                    symbol["FunctionName"] or None,
                    symbol["FileName"] or None,
                    int(symbol["Line"]) or None,
                    int(symbol.get("Discriminator", 0)),
                )
                for symbol in symbols
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ToolError(f"{self.name} gave an answer that is not understood") from error
        return frames if any(frame.line for frame in frames) else []

    def close(self) -> None:
        """See `LineEngine`."""
        if self._server is not None:
            self._server.close()
            self._server = None


class Addr2line:
    """GNU addr2line: a process for each binary and batch, since it knows one binary only."""

    name = "addr2line"

    def __init__(self, program: str, timeout_s: float) -> None:
        self._program = program
        self._timeout_s = timeout_s

    def lookup(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """See `LineEngine`."""
        server = LineServer(
            [self._program, "-a", "-f", "-i", "-e", path],
            timeout_s=self._timeout_s,
            memory_bytes=MEMORY_BYTES,
        )
        try:
            # An answer has any number of lines, and ends where the next one begins with its
            # address: a last request without interest marks the end of the last answer.
            lines = server.ask(
                [b"0x%x" % address for address in (*addresses, 0)],
                answers=len(addresses) + 1,
                is_answer=_is_address,
            )
        finally:
            server.close()
        return self._split(lines, addresses)

    def _split(self, lines: list[bytes], addresses: Sequence[int]) -> list[list[SourceFrame]]:
        starts = [index for index, line in enumerate(lines) if _is_address(line)]
        results: list[list[SourceFrame]] = []
        for address, start, end in zip(addresses, starts, starts[1:]):
            block = lines[start + 1 : end]
            if int(lines[start], 16) != address or len(block) % 2:
                raise ToolError(f"{self.name} gave an answer that is not understood")
            pairs = list(zip(block[::2], block[1::2]))[:MAX_INLINE_DEPTH]
            frames = [_addr2line_frame(function, place) for function, place in pairs]
            results.append(frames if any(frame.line for frame in frames) else [])
        return results

    def close(self) -> None:
        """Do nothing: no process outlives its lookup."""


def _is_address(line: bytes) -> bool:
    return _ADDRESS.match(line) is not None


def _addr2line_frame(function: bytes, place: bytes) -> SourceFrame:
    name = function.decode("utf-8", "backslashreplace")
    text = os.fsdecode(place)
    text, _, rest = text.partition(" (discriminator ")
    digits = rest.rstrip(")")
    discriminator = int(digits) if digits.isdigit() and len(digits) < 10 else 0
    file, _, number = text.rpartition(":")
    line = int(number) if number.isdigit() and len(number) < 10 else 0
    return SourceFrame(
        None if name == "??" else name, None if file in ("", "??") else file, line or None, discriminator
    )
