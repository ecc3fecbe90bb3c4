"""SQL functions of our own: names of places, and bytes in words."""

import sqlite3
from typing import Any, Optional

from ..records import Frame, Module
from ..shown import NATIVE, ShownFrame, lines
from ..units import size
from .content import Content


def add(connection: sqlite3.Connection, content: Content) -> None:
    """Define `addr2line(build_id, vaddr)`, `symbol(build_id, vaddr)` and `human(bytes)`."""
    places = _Places(content)
    connection.create_function("addr2line", 2, places.addr2line)
    connection.create_function("symbol", 2, places.symbol)
    connection.create_function("human", 1, human, deterministic=True)


NAMES = ("addr2line", "symbol", "human")


def human(number: Any) -> Optional[str]:
    """Return bytes in the largest unit that leaves a number above 1; NULL for what is no number."""
    return size(number) if isinstance(number, (int, float)) else None


class _Places:
    def __init__(self, content: Content) -> None:
        self._content = content
        self._modules: Optional[dict[str, Module]] = None

    def addr2line(self, build_id: Any, vaddr: Any) -> Optional[str]:
        """Return a line for each function at a place, innermost first, as `addr2line -pCfi` prints them."""
        module, named = self._named(build_id, vaddr)
        if not named or module is None:
            return None
        path = module.path or None
        shown = [ShownFrame(NATIVE, f.function or None, f.file, f.line, path, vaddr, f.inlined, True) for f in named]
        return "\n".join(lines(shown))

    def symbol(self, build_id: Any, vaddr: Any) -> Optional[str]:
        """Return the innermost function at a place."""
        _, named = self._named(build_id, vaddr)
        return (named[0].function or None) if named else None

    def _named(self, build_id: Any, vaddr: Any) -> tuple[Optional[Module], tuple[Any, ...]]:
        if self._modules is None:
            self._modules = {one.build_id: one for one in self._content.modules() if one.build_id and one.path}
        module = self._modules.get(build_id) if isinstance(build_id, str) else None
        if module is None or not isinstance(vaddr, int) or vaddr < 0:
            return None, ()
        place = Frame(module.id, vaddr, self._content.is_exact(module.build_id, vaddr))
        return module, self._content.tracer.named(module, place)
