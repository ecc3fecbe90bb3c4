"""C++ and Rust names made readable; what cannot be demangled stays as it is.

The demangler is a process: a name of 227 bytes was seen to become 71 MB and one of 275 more than
there is (each substitution may double it), and names come from files we do not trust. It is
c++filt if there is one, else the C++ runtime's own `__cxa_demangle` in a small Python; both are
libiberty and agree in spelling.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from .process import LineServer, ToolError, find_program

TIMEOUT_S = 5.0
MEMORY_BYTES = 512 << 20
MAX_NAME_BYTES = 16 << 10
MAX_READABLE_CHARS = 64 << 10
MAX_RESTARTS = 8  # names that kill or hang the demangler before it is given up

_WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demangle_worker.py")

# Only the end is a regular expression: one for the whole name was seen to take minutes, since
# it may split a C++ name of 100 digits in 2^100 ways.
_RUST_HASH = re.compile(r"17h[0-9a-f]{16}E(?:\.|\Z)")
_RUST_ESCAPES = {
    "SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ",",
}  # fmt: skip


class Demangler:
    """Demangles names in batches; keeps its process until close()."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._server: LineServer | None = None
        self._commands: list[list[str]] | None = None
        self._restarts = 0

    @property
    def is_missing(self) -> bool:
        """Whether names were to be demangled, and nothing here can."""
        return self._commands is not None and not self._commands

    def names(self, mangled: Iterable[str]) -> dict[str, str]:
        """Return a readable name for each of *mangled*; the name itself if there is none."""
        wanted = set(mangled)
        unknown = []
        for name in wanted:
            if name in self._known:
                continue
            readable = name
            if name.startswith(("_Z", "_R")):
                rust = rust_legacy(name)
                if rust is not None:
                    readable = rust
                elif name.isascii() and name.isprintable() and len(name) <= MAX_NAME_BYTES:
                    unknown.append(name)
            self._known[name] = readable
        if unknown:
            unknown.sort()
            for name, readable in zip(unknown, self._ask(unknown)):
                self._known[name] = readable if len(readable) <= MAX_READABLE_CHARS else name
        return {name: self._known[name] for name in wanted}

    def _ask(self, names: list[str]) -> list[str]:
        """Return one readable name for each of *names*, as many as the demangler survives."""
        readable: list[str] = []
        while len(readable) < len(names):
            server = self._start()
            if server is None:
                break
            rest = [name.encode("ascii") for name in names[len(readable) :]]
            try:
                lines = server.ask(rest, answers=len(rest))
            except ToolError as error:
                lines = error.lines
                self._server = None
                if lines or readable:
                    self._restarts += 1
                    # The first name without an answer is to blame: it stays as it is.
                    lines = [*lines, rest[len(lines)]]
                elif self._commands:
                    del self._commands[0]  # this program cannot work here: try the next
            readable += [line.decode("utf-8", "backslashreplace") for line in lines]
        return readable + names[len(readable) :]

    def _start(self) -> LineServer | None:
        if self._commands is None:
            self._commands = _commands()
        while self._server is None and self._commands and self._restarts <= MAX_RESTARTS:
            try:
                self._server = LineServer(self._commands[0], timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES)
            except ToolError:
                del self._commands[0]
        return self._server

    def close(self) -> None:
        """End the process; the next batch starts a new one."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _commands() -> list[list[str]]:
    commands = []
    filt = find_program("c++filt")
    if filt is not None:
        # -i: std::string and not its expansion, as addr2line prints it. -r: long names too.
        commands.append([filt, "-i", "-r"])
    if sys.executable:
        commands.append([sys.executable, "-I", "-S", _WORKER])
    return commands


def rust_legacy(name: str) -> str | None:
    """Demangle Rust's first scheme, dropping the hash; None if *name* is not of it.

    Ours, since the C++ runtime takes such names for C++ and keeps `$LT$` and the hash.
    """
    match = _RUST_HASH.search(name) if name.startswith("_ZN") else None
    if match is None:
        return None
    path, parts = name[3 : match.start()], []
    while path:
        digits = len(path) - len(path.lstrip("0123456789"))
        length = int(path[:digits] or "0") if digits <= 6 else 0
        part, path = path[digits : digits + length], path[digits + length :]
        if not length or len(part) < length:
            return None
        parts.append(_rust_part(part))
    return "::".join(parts) or None


def _rust_part(part: str) -> str:
    if part.startswith("_$"):
        part = part[1:]
    part = re.sub(r"\$(?:u([0-9a-f]{1,6})|([A-Z]{1,2}))\$", _rust_escape, part)
    return part.replace("..", "::")


def _rust_escape(match: re.Match[str]) -> str:
    if match[1]:
        code = int(match[1], 16)
        printable = code <= 0x10FFFF and chr(code).isprintable()
        return chr(code) if printable else match[0]
    return _RUST_ESCAPES.get(match[2], match[0])
