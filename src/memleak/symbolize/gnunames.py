"""Which name a frame gets: the debug information's, or that of the symbol at the address.

Debug information has a linker's name for nearly every function; the rest (lambdas, members of local
classes, all C++ where only lines were asked for) has a bare one: "operator()".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from .lines import SourceFrame
from .nearest import Symbol

FindSymbol = Callable[[], Optional[Symbol]]


class RightNames:
    """The symbol's full name for the function that has the code, and for no call that was inlined into it."""

    @staticmethod
    def need_symbol(chain: Sequence[SourceFrame]) -> bool:
        """Tell whether `apply` asks for the symbol."""
        return not chain or not chain[-1].linkage or chain[-1].function is None

    def apply(self, chain: Sequence[SourceFrame], symbol: FindSymbol) -> list[SourceFrame]:
        """Return *chain* with names; *symbol* finds the symbol at its address."""
        named = list(chain)
        if self.need_symbol(chain):
            named[-1] = with_symbol(named[-1], symbol())
        return named


class GnuNames:
    """As binutils 2.40 chooses, which depends on what was asked before.

    The innermost function takes the symbol's name, even if the symbol is of what it was inlined into;
    asked for again it has its own bare one. What it was inlined into has a bare name, unless it was
    once asked for itself and begins where the symbol does.
    """

    def __init__(self) -> None:
        self._asked: dict[int, str | None] = {}  # by entry: the name it has from now on

    def apply(self, chain: Sequence[SourceFrame], symbol: FindSymbol) -> list[SourceFrame]:
        """Return *chain* with names; *symbol* finds the symbol at its address."""
        innermost, *outer = chain
        if innermost.entry in self._asked:
            innermost = innermost._replace(function=self._asked[innermost.entry])
        elif not innermost.linkage or innermost.function is None:
            found = symbol()
            if innermost.entry:
                own = found is not None and found.start == innermost.low
                self._asked[innermost.entry] = found.name if found is not None and own else innermost.function
            innermost = with_symbol(innermost, found)
        return [innermost, *(frame._replace(function=self._asked.get(frame.entry, frame.function)) for frame in outer)]


def with_symbol(frame: SourceFrame, symbol: Symbol | None) -> SourceFrame:
    """Return *frame* with the symbol's name, and its file if no line is known."""
    if symbol is None:
        return frame
    return frame._replace(function=symbol.name, file=symbol.file if frame.file is None else frame.file)
