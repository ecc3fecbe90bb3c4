"""Stacks as text: OceanBase's `back_trace` tokens, and names when there is a symbolizer."""

from collections.abc import Iterable
from typing import Any, Optional

from .records import Frame, Module
from .symbolize.frames import is_plumbing

TOKENS = 16
UNKNOWN = "??"


class Tracer:
    """Writes frames down, remembering each place it has seen."""

    def __init__(self, symbolizer: Optional[Any]) -> None:
        """Use *symbolizer* (see `memleak.query.Snapshot`) for names; None for none."""
        self._symbolizer = symbolizer
        self._named: dict[tuple[str, str, int, bool], tuple[Any, ...]] = {}

    @property
    def can_name(self) -> bool:
        """Whether places can be given names."""
        return self._symbolizer is not None

    def prefetch(self, places: Iterable[tuple[Module, Frame]]) -> None:
        """Look up many places at once: a symbolizer that starts a tool starts it once a binary."""
        resolve = getattr(self._symbolizer, "resolve", None)
        if resolve is None:
            return
        wanted = {_key(*place): None for place in places if place[0].path}
        missing = [key for key in wanted if key not in self._named]
        self._named.update((key, tuple(found)) for key, found in zip(missing, resolve(missing)))

    def named(self, module: Module, frame: Frame) -> tuple[Any, ...]:
        """Return the symbolizer's frames at a place, innermost first; empty when it knows none."""
        if self._symbolizer is None or not module.path:
            return ()
        place = _key(module, frame)
        found = self._named.get(place)
        if found is None:
            found = self._named[place] = tuple(self._symbolizer.frames(*place))
        return found

    def without_plumbing(self, places: list[tuple[Module, Frame]]) -> list[tuple[Module, Frame]]:
        """Return the stack from the caller of `operator new` on.

        The core cuts it off where a dynamic symbol tells; in a program with its own copy (static
        libstdc++) only the symbol table does.
        """
        first = 0
        while first < len(places) - 1:
            named = self.named(*places[first])
            if not named or not is_plumbing(named[-1].function):
                break
            first += 1
        return places[first:]

    def native_trace(self, places: list[tuple[Module, Frame]]) -> Optional[str]:
        """Return the named stack, innermost first, joined by ` < `; None without a symbolizer."""
        if self._symbolizer is None:
            return None
        return " < ".join(
            describe(found) or token(module, frame)
            for module, frame in self.without_plumbing(places)
            for found in self.named(module, frame) or (None,)
        )

    def lines(self, places: list[tuple[Module, Frame]]) -> tuple[str, ...]:
        """Return the stack as `addr2line -pi` prints it, a line per frame; places where there is no name."""
        lines = []
        for module, frame in self.without_plumbing(places):
            inlined = False
            for found in self.named(module, frame) or (None,):
                prefix = " (inlined by) " if inlined else ""
                lines.append(prefix + _line(found, module, frame))
                inlined = found is not None and found.inlined
        return tuple(lines)


def _key(module: Module, frame: Frame) -> tuple[str, str, int, bool]:
    return (module.path, module.build_id, frame.vaddr, frame.exact)


def _line(found: Any, module: Module, frame: Frame) -> str:
    if found is None or not found.function:
        return f"{short_name(module)}+0x{frame.vaddr:x}"
    if not found.file:
        return f"{found.function} ({short_name(module)})"
    return f"{found.function} at {found.file}:{found.line or '?'}"


def describe(found: Any) -> str:
    """Return `function (file:line)` of a symbolizer's frame, without what it does not know."""
    if found is None or not found.function:
        return ""
    if not found.file:
        return str(found.function)
    return f"{found.function} ({found.file}:{found.line})" if found.line else f"{found.function} ({found.file})"


def token(module: Module, frame: Frame) -> str:
    """Return one frame as `back_trace` has it: `0x1234` in the program itself, else `lib.so+0x1234`."""
    if module.is_main:
        return f"0x{frame.vaddr:x}"
    return f"{short_name(module)}+0x{frame.vaddr:x}"


def short_name(module: Module) -> str:
    """Return a module's file name, safe in a list separated by blanks; `??` when it has no path."""
    name = module.path.rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in name) or UNKNOWN


def back_trace(places: list[tuple[Module, Frame]]) -> str:
    """Return the stack as `back_trace` has it: tokens separated by blanks, at least 16."""
    tokens = [token(module, frame) for module, frame in places]
    return " ".join(tokens + ["0x0"] * (TOKENS - len(tokens)))
