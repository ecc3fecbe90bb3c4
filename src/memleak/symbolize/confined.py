"""Symbolizers in a child process: what a hostile binary does to its reader costs its names and no more.

The command line reads binaries so. A library caller uses `Symbolizer` itself: its process may have threads,
and is not forked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

from .child import Child, ChildError, RemoteError
from .debugfiles import build_id_hex, recorded_path
from .elf import ElfError
from .frames import Frame
from .gnulines import BinaryLines
from .lines import SourceFrame
from .symbolizer import BuildId, Request, Symbolizer

if TYPE_CHECKING:
    from .debuginfod import Debuginfod
    from .units import LearnedUnits

MAX_LOST = 8  # children; then nothing is read any more

_Module = tuple[str, Optional[str]]  # path and build-id
_Place = tuple[int, bool]  # address, exact


class ConfinedSymbolizer:
    """A `Symbolizer` in a child process; the same methods, and it never raises for a binary's sake.

    A binary that the child does not survive is given up and named by `problems()`; the others are asked
    for in a new child.

    Args:
        make: makes the symbolizer, in the child.
        limits: see `Child`.
    """

    def __init__(self, make: Callable[[], Any] = Symbolizer, **limits: Any) -> None:
        self._make = make
        self._limits = limits
        self._child: Child | None = None
        self._lost = 0
        self._given_up: dict[_Module, str] = {}
        self._problems: dict[str, str] = {}

    def __enter__(self) -> ConfinedSymbolizer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; a later lookup starts a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def problems(self) -> dict[str, str]:
        """See `Symbolizer.problems`."""
        return dict(self._problems)

    def frames(self, path: str, build_id: BuildId, vaddr: int, exact: bool = False) -> tuple[Frame, ...]:
        """See `Symbolizer.frames`."""
        return self.resolve([(path, build_id, vaddr, exact)])[0]

    def resolve(self, requests: Iterable[Request]) -> list[tuple[Frame, ...]]:
        """See `Symbolizer.resolve`."""
        wanted = [(path, build_id_hex(build_id), vaddr, bool(exact)) for path, build_id, vaddr, exact in requests]
        modules: dict[_Module, dict[_Place, tuple[Frame, ...]]] = {}
        for path, build_id, vaddr, exact in wanted:
            modules.setdefault((path, build_id), {})[vaddr, exact] = ()
        for module, places in modules.items():
            places.update(zip(places, self._ask(module, list(places))))
        return [modules[path, build_id][vaddr, exact] for path, build_id, vaddr, exact in wanted]

    def _ask(self, module: _Module, places: Sequence[_Place]) -> list[tuple[Frame, ...]]:
        path = recorded_path(module[0])
        if self._lost >= MAX_LOST:
            self._problems.setdefault(path, f"not read after {MAX_LOST} other binaries made their readers fail")
        elif module not in self._given_up:
            try:
                if self._child is None:
                    self._child = Child(lambda: _Service(self._make()), **self._limits)
                frames, problems = self._child.call("resolve", *module, places)
                found = [_frames(chain, path, place) for chain, place in zip(_unpacked(frames, 5), places)]
                if len(found) != len(places) or not all(found):
                    raise ValueError("frames are missing")
                self._problems.update((str(name), str(why)) for name, why in problems.items())
                return found
            except RemoteError as error:
                self._give_up(module, str(error))
            except ChildError as error:
                self._give_up(module, f"the process that read it {error}")
            except (ValueError, TypeError, AttributeError):
                self._give_up(module, "the process that read it gave an answer that is not understood")
        return [(Frame(None, None, None, False, path, vaddr),) for vaddr, _ in places]

    def _give_up(self, module: _Module, why: str) -> None:
        self.close()
        self._lost += 1
        self._given_up[module] = why
        self._problems[recorded_path(module[0])] = why


class _Service:
    """What the child does."""

    def __init__(self, symbolizer: Any) -> None:
        self._symbolizer = symbolizer

    def resolve(self, path: str, build_id: str | None, places: Sequence[_Place]) -> Any:
        found = self._symbolizer.resolve([(path, build_id, vaddr, exact) for vaddr, exact in places])
        frames = [
            [(one.function, one.file, one.line or 0, int(one.inlined), one.discriminator) for one in chain]
            for chain in found
        ]
        return _packed(frames), self._symbolizer.problems()


def _packed(chains: Sequence[Sequence[tuple[Any, ...]]]) -> tuple[list[str | None], list[list[int]]]:
    """Return chains of frames as each text once, and numbers; those of the function and the file come first.

    Written out, the names of 10,000 addresses are some 20 MB: many lie in few functions.
    """
    numbers: dict[str | None, int] = {None: 0}
    number = numbers.setdefault
    rows = []
    for chain in chains:
        row: list[int] = []
        for function, file, *rest in chain:
            row += (number(function, len(numbers)), number(file, len(numbers)), *rest)
        rows.append(row)
    return list(numbers), rows


def _unpacked(packed: Any, width: int) -> list[list[tuple[Any, ...]]]:
    """Return what `_packed` took, frames of *width* fields. Raises ValueError or TypeError if it is not so."""
    texts, rows = packed
    texts = list(map(_text, texts))
    chains = []
    for row in rows:
        if len(row) % width or not all(type(number) is int and number >= 0 for number in row):
            raise ValueError("frames that are none")
        frames = [row[at : at + width] for at in range(0, len(row), width)]
        if any(frame[0] >= len(texts) or frame[1] >= len(texts) for frame in frames):
            raise ValueError("a text that is not there")
        chains.append([(texts[frame[0]], texts[frame[1]], *frame[2:]) for frame in frames])
    return chains


def _frames(chain: Any, path: str, place: _Place) -> tuple[Frame, ...]:
    """Return the child's frames of one place. Raises ValueError or TypeError if they are none."""
    return tuple(
        Frame(function, file, line or None, bool(inlined), path, place[0], discriminator)
        for function, file, line, inlined, discriminator in chain
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(value)


class ConfinedLines:
    """`BinaryLines` in a child process; without names once the child is lost, which `problem` tells.

    Args:
        path, gnu_compat, debug_dirs, units, server: see `BinaryLines`.
        make: makes it, in the child.
        limits: see `Child`.

    Raises:
        ElfError: the file is not there, or is not a program or library.
    """

    def __init__(
        self,
        path: str,
        *,
        gnu_compat: bool = False,
        debug_dirs: Sequence[str] = (),
        units: LearnedUnits | None = None,
        server: Debuginfod | None = None,
        make: Callable[..., Any] = BinaryLines,
        **limits: Any,
    ) -> None:
        self.problem: str | None = None
        self.bits = 64
        try:
            self._child: Child | None = Child(
                lambda: _LinesService(
                    make(path, gnu_compat=gnu_compat, debug_dirs=debug_dirs, mapped=True, units=units, server=server)
                ),
                **limits,
            )
            self.bits = 32 if self._child.call("bits") == 32 else 64
        except RemoteError as error:
            self.close()
            raise ElfError(str(error)) from None
        except ChildError as error:
            self._lose(error)

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def has_section(self, name: str) -> bool:
        """See `BinaryLines.has_section`."""
        return bool(self._call("has_section", name))

    def address_of(self, symbol: str) -> int | None:
        """See `BinaryLines.address_of`."""
        found = self._call("address_of", symbol)
        return found if isinstance(found, int) else None

    def chains(
        self, addresses: Sequence[int], section: str | None = None, *, demangle: bool = False
    ) -> list[list[SourceFrame]]:
        """See `BinaryLines.chains`; readable names if *demangle*."""
        answer = self._call("chains", list(addresses), section, demangle)
        try:
            if answer is not None:
                chains, self.problem = answer
                found = [
                    [SourceFrame(function, file, line or None, more) for function, file, line, more in chain]
                    for chain in _unpacked(chains, 4)
                ]
                if len(found) == len(addresses):
                    return found
                raise ValueError("frames are missing")
        except (ValueError, TypeError):
            self._lose("gave an answer that is not understood")
        return [[] for _ in addresses]

    def _call(self, method: str, *arguments: Any) -> Any:
        if self._child is None:
            return None
        try:
            return self._child.call(method, *arguments)
        except RemoteError as error:
            self.problem = str(error)
        except ChildError as error:
            self._lose(error)
        return None

    def _lose(self, why: object) -> None:
        self.close()
        self.problem = f"the process that read it {why}"


class _LinesService:
    """What the child does."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.has_section = lines.has_section
        self.address_of = lines.address_of

    def bits(self) -> Any:
        return self._lines.bits

    def chains(self, addresses: list[int], section: str | None, demangle: bool) -> Any:
        found = self._lines.chains(addresses, section)
        names = {frame.function for chain in found for frame in chain if frame.function}
        readable = self._lines.demangled(names) if demangle else {}
        chains = [
            [(readable.get(one.function, one.function), one.file, one.line or 0, one.discriminator) for one in chain]
            for chain in found
        ]
        return _packed(chains), self._lines.problem
