"""Answers about the addresses of one binary, given before: `BinaryLines` is not started for what the cache knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from .answers import Answer, AnswerFrame
from .cache import CachedAnswers, Key, SymbolCache
from .debugfiles import find_binary
from .elf import ElfError
from .headers import read_headers
from .lines import SourceFrame
from .remembered import key_of


class CachedLines:
    """As `ConfinedLines`, which is started when something is asked that is not known. Close it: then answers are written.

    Args:
        path: the program or library.
        start: starts what is behind the cache.
        cache: where answers are.
        debug_dirs: that *start* looks in.
        engine: a name for what answers; answers of another are not given.

    Raises:
        ElfError: the file is not there, or is not a program or library.
    """

    def __init__(
        self, path: str, start: Callable[[], Any], cache: SymbolCache, debug_dirs: Sequence[str], engine: str
    ) -> None:
        self.bits = read_headers(path).bits
        self._path, self._start, self._cache, self._debug_dirs = path, start, cache, tuple(debug_dirs)
        self._engine = engine
        self._behind: Any = None
        self._failed: str | None = None
        self._stored: dict[Key, CachedAnswers | None] = {}
        self._new: dict[Key, dict[int, Answer]] = {}

    @property
    def problem(self) -> str | None:
        """Why there are fewer names than there could be, or None."""
        return self._failed if self._behind is None else self._behind.problem

    def close(self) -> None:
        """Write what was learned, and close what is behind."""
        for stored in self._stored.values():
            if stored is not None:
                stored.close()
        self._stored.clear()
        while self._new:
            self._cache.add_answers(*self._new.popitem())
        if self._behind is not None:
            self._behind.close()

    def has_section(self, name: str) -> bool:
        """See `BinaryLines.has_section`."""
        behind = self._started()
        return behind is not None and bool(behind.has_section(name))

    def address_of(self, symbol: str) -> int | None:
        """See `BinaryLines.address_of`."""
        behind = self._started()
        return None if behind is None else behind.address_of(symbol)

    def chains(
        self, addresses: Sequence[int], section: str | None = None, *, demangle: bool = False
    ) -> list[list[SourceFrame]]:
        """See `ConfinedLines.chains`. Offsets in a section are not looked for in the cache."""
        key = self._key(demangle) if section is None else None
        if key is None:
            return self._ask(addresses, section, demangle)
        if key not in self._stored:
            self._stored[key] = self._cache.answers(key)
        stored, new = self._stored[key], self._new.setdefault(key, {})
        known: dict[int, Answer] = {}
        for address in addresses:
            answer = new.get(address)
            if answer is None and stored is not None:
                answer = stored.find(address)
            if answer is not None:
                known[address] = answer
        missing = [address for address in dict.fromkeys(addresses) if address not in known]
        if missing:
            found = self._ask(missing, None, demangle)
            asked = {address: _answer(chain) for address, chain in zip(missing, found)}
            # Replaced while it was read: whose answers these are is not known.
            if self.problem is None and key == self._key(demangle):
                new.update(asked)
            known.update(asked)
        return [[_frame(frame) for frame in known[address]] for address in addresses]

    def _ask(self, addresses: Sequence[int], section: str | None, demangle: bool) -> list[list[SourceFrame]]:
        behind = self._started()
        if behind is None:
            return [[] for _ in addresses]
        return behind.chains(addresses, section, demangle=demangle)  # type: ignore[no-any-return]

    def _started(self) -> Any:
        """Return what is behind the cache; None if the file has gone since it was opened, which `problem` tells."""
        if self._behind is None and self._failed is None:
            try:
                self._behind = self._start()
            except ElfError as error:
                self._failed = str(error)
        return self._behind

    def _key(self, demangle: bool) -> Key | None:
        binary = find_binary(self._path, None, debug_dirs=self._debug_dirs)
        if binary.problem is not None:
            return None
        try:
            return key_of(binary, None, f"addr2line, {self._engine}{', -C' if demangle else ''}")
        except ElfError:
            return None


def _answer(chain: Sequence[SourceFrame]) -> Answer:
    return tuple(AnswerFrame(one.function, one.file, one.line, False, one.discriminator) for one in chain)


def _frame(frame: AnswerFrame) -> SourceFrame:
    return SourceFrame(frame.function, frame.file, frame.line, frame.discriminator)
