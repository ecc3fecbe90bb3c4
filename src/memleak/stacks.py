"""Stacks as text: OceanBase's `back_trace` tokens, and names when there is a symbolizer."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Optional

from .mixing import Runs, mix
from .records import Frame, Module, PythonFrame, RecordedRow
from .shown import LOST_FRAME, NATIVE, PYTHON, ShownFrame, file_name, joined
from .symbolize.frames import begins_stack, is_plumbing

TOKENS = 16
MIXED = "mixed"


class Tracer:
    """Writes frames down, remembering each place it has seen."""

    def __init__(self, symbolizer: Optional[Any]) -> None:
        """Use *symbolizer* (see `memleak.query.Snapshot`) for names; None for none."""
        self.symbolizer = symbolizer
        self._named: dict[tuple[str, str, int, bool], tuple[Any, ...]] = {}
        self._shown_at: dict[tuple[str, str, int, bool], tuple[ShownFrame, ...]] = {}

    @property
    def can_name(self) -> bool:
        """Whether places can be given names."""
        return self.symbolizer is not None

    def problems(self) -> dict[str, str]:
        """Return why objects have fewer names than they could, as far as the symbolizer says: path -> reason."""
        return dict(getattr(self.symbolizer, "problems", dict)())

    def prefetch(self, places: Iterable[tuple[Module, Frame]]) -> None:
        """Look up many places at once: a symbolizer that starts a tool starts it once a binary."""
        resolve = getattr(self.symbolizer, "resolve", None)
        if resolve is None:
            return
        wanted = {_key(*place): None for place in places if place[0].path}
        missing = [key for key in wanted if key not in self._named]
        self._named.update((key, tuple(found)) for key, found in zip(missing, resolve(missing)))

    def named(self, module: Module, frame: Frame) -> tuple[Any, ...]:
        """Return the symbolizer's frames at a place, innermost first; empty when it knows none."""
        if self.symbolizer is None or not module.path:
            return ()
        place = _key(module, frame)
        found = self._named.get(place)
        if found is None:
            found = self._named[place] = tuple(self.symbolizer.frames(*place))
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

    def own_stack(self, places: list[tuple[Module, Frame]]) -> list[tuple[Module, Frame]]:
        """Return the stack without plumbing, and no further out than where a greenlet begins.

        A greenlet runs on a part of its thread's stack: unwinding goes on into frames that are not its own,
        or are none any more. Only a symbol table tells where that is.
        """
        places = self.without_plumbing(places)
        for index, place in enumerate(places):
            named = self.named(*place)
            if named and begins_stack(named[-1].function):
                return places[: index + 1]
        return places

    def native_trace(self, places: list[tuple[Module, Frame]]) -> Optional[str]:
        """Return the named stack, innermost first, joined by ` < `; None without a symbolizer."""
        if self.symbolizer is None:
            return None
        return " < ".join(
            frame.brief if frame.function else token(module, recorded)
            for module, recorded in self.own_stack(places)
            for frame in self._shown(module, recorded)
        )

    def python_trace(self, row: RecordedRow) -> Optional[str]:
        """Return the Python stack, innermost first, joined by ` < `; None without one."""
        return joined(self.frames(row, [], PYTHON)) or None

    def frames(self, row: RecordedRow, places: list[tuple[Module, Frame]], side: str = MIXED) -> list[ShownFrame]:
        """Return a row's stack as it is shown.

        Args:
            row: the row; of it, the Python stack is used.
            places: its native stack.
            side: `mixed`, or one of `native` and `python`.
        """
        native = [] if side == PYTHON else [self._shown(*place) for place in self.own_stack(places)]
        if side != NATIVE and row.python_lost:
            return [*(frame for place in native for frame in place), LOST_FRAME]
        recorded = () if side == NATIVE else row.python_stack
        python = [shown_python(frame) for frame in recorded]
        whole = not (row.truncated or row.python_truncated)
        runs = [Runs(frame.entry, frame.empty_runs) for frame in recorded]
        return mix(native, python, runs, whole=whole)

    def _shown(self, module: Module, frame: Frame) -> tuple[ShownFrame, ...]:
        """Return what is shown for a place: a function and what it was inlined into, or the place alone."""
        key = _key(module, frame)
        found = self._shown_at.get(key)
        if found is None:
            path = module.path or None
            found = self._shown_at[key] = tuple(
                ShownFrame(NATIVE, each.function or None, each.file, each.line, path, frame.vaddr, each.inlined, True)
                for each in self.named(module, frame)
            ) or (ShownFrame(NATIVE, None, None, None, path, frame.vaddr, False, True),)
        return found


@lru_cache(maxsize=1 << 16)
def shown_python(frame: PythonFrame) -> ShownFrame:
    """Return what is shown for a Python frame."""
    return ShownFrame(PYTHON, frame.name or None, frame.file or None, frame.line, None, None, False, True)


def _key(module: Module, frame: Frame) -> tuple[str, str, int, bool]:
    return (module.path, module.build_id, frame.vaddr, frame.exact)


def token(module: Module, frame: Frame) -> str:
    """Return one frame as `back_trace` has it: `0x1234` in the program itself, else `lib.so+0x1234`."""
    if module.is_main:
        return f"0x{frame.vaddr:x}"
    return f"{file_name(module.path)}+0x{frame.vaddr:x}"


def back_trace(places: list[tuple[Module, Frame]]) -> str:
    """Return the stack as `back_trace` has it: tokens separated by blanks, at least 16; empty without a stack."""
    return joined_tokens([token(module, frame) for module, frame in places])


def joined_tokens(tokens: list[str]) -> str:
    """Return the tokens of a stack as `back_trace` has them."""
    return " ".join(tokens + ["0x0"] * (TOKENS - len(tokens))) if tokens else ""
